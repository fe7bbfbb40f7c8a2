package imap

import (
	"context"
	"net"
	"net/netip"
)

// A backend is the IMAP server behind the filter: one that is already there, or the embedded one.
type backend interface {
	// dial opens a connection for a client, within ctx.
	dial(ctx context.Context, client netip.AddrPort) (backendConn, error)
	// String is what logs call it.
	String() string
	// syncLiterals is imapext.Options.SyncLiterals.
	syncLiterals() bool
	// close ends what is left of the backend, after the last session has ended.
	close()
}

// A backendConn is a connection that can be half closed.
type backendConn interface {
	net.Conn
	CloseWrite() error
}
