//go:build !unix

package patient

import (
	"net"
	"syscall"
)

const canReadAtOnce = false

// readAtOnce is not called.
func readAtOnce(uintptr, []byte) (int, error) { return 0, ErrNothingYet }

// readable is not called.
func readable(uintptr) bool { return true }

// A writer writes with the connection's own Write.
type writer struct{ raw syscall.RawConn }

func (*writer) write(conn net.Conn, p []byte) (int, error) { return conn.Write(p) }
