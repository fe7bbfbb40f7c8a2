// Package embedded is an IMAP server within this process, with mailboxes in memory: go-imap's, with limits.
package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/pipe"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/framework/password"
)

// A Server is go-imap's server with mailboxes in memory, reached over pipes inside the process.
type Server struct {
	logger   *slog.Logger
	checker  *passwordChecker
	accounts map[string]*account // read-only
	refusals log.Limit

	listener *pipe.Listener
	server   *imapserver.Server
	serving  sync.WaitGroup // the accept loop
	sessions sync.WaitGroup // every mailSession until its Close
	stopping chan struct{}  // closed by Close
	stop     sync.Once
}

// New starts the embedded server. Users who have an account on previous, if that is not nil, keep it. Close has to be called.
func New(users Users, previous *Server, logger *slog.Logger) (*Server, error) {
	passwords := make(map[string]password.Password, len(users))
	accounts := make(map[string]*account, len(users))
	for name, secret := range users {
		p, err := password.Parse(string(secret.Bytes()))
		if err != nil {
			return nil, fmt.Errorf("user %q: %w", name, err)
		}
		passwords[name] = p
		if previous != nil {
			accounts[name] = previous.accounts[name]
		}
		if accounts[name] == nil {
			accounts[name] = newAccount(name)
		}
	}
	e := &Server{
		logger:   logger,
		checker:  newPasswordChecker(passwords),
		accounts: accounts,
		listener: pipe.NewListener(),
		stopping: make(chan struct{}),
	}
	e.server = imapserver.New(&imapserver.Options{
		NewSession: func(conn *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &mailSession{server: e, conn: conn}, nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		Logger:       serverLogger{logger},
		InsecureAuth: true, // whether TLS is required is decided on the client's connection
	})
	e.serving.Go(func() { e.server.Serve(e.listener) })
	<-e.listener.Accepting() // go-imap's Close must not be called while Serve begins
	return e, nil
}

// Dial opens a connection for a client. After Close, the error is net.ErrClosed.
func (e *Server) Dial(_ context.Context, from origin.Origin) (backend.Conn, error) {
	ours, theirs := pipe.New(net.TCPAddrFromAddrPort(from.Client))
	e.sessions.Add(1) // its Done is in mailSession.Close, which go-imap calls for every connection that it has accepted
	if err := e.listener.Offer(newServerConn(theirs)); err != nil {
		e.sessions.Done()
		return nil, err
	}
	return ours, nil
}

// Health returns nil: the server is always available.
func (e *Server) Health() error { return nil }

// String returns "embedded".
func (e *Server) String() string { return "embedded" }

// Close ends the remaining connections and waits for their goroutines.
func (e *Server) Close() {
	e.stop.Do(func() { close(e.stopping) })
	e.server.Close()
	e.serving.Wait()
	e.sessions.Wait()
}

// loginRefused logs a refused login, but never the password.
func (e *Server) loginRefused(client, username string) {
	e.refusals.Log(e.logger, slog.LevelWarn, "login refused", "client", client, "username", clip(username, maxUsernameLen))
}

// clip shortens s to n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// serverLogger is the logger for go-imap's server, which reports errors of clients, logged for debugging, and its own panics,
// logged as errors.
type serverLogger struct{ logger *slog.Logger }

func (l serverLogger) Printf(format string, args ...any) {
	level := slog.LevelDebug
	if strings.HasPrefix(format, "panic") {
		level = slog.LevelError
	}
	l.logger.Log(context.Background(), level, "embedded IMAP server", "err", fmt.Sprintf(format, args...))
}
