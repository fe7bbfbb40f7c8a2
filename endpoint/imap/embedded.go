package imap

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/mailturn/mailturn/framework/log"
)

// An embedded is go-imap's server with mailboxes in memory, reached over pipes inside the process.
type embedded struct {
	logger   *slog.Logger
	checker  *passwordChecker
	accounts map[string]*account // read-only
	refusals log.Limit

	listener *pipeListener
	server   *imapserver.Server
	serving  sync.WaitGroup // the accept loop
	sessions sync.WaitGroup // every mailSession until its Close
	stopping chan struct{}  // closed by close
	stop     sync.Once
}

// newEmbedded starts the embedded server for users, whose passwords parsePassword accepts. Those of them who have an account in
// existing keep it. close has to be called.
func newEmbedded(users map[string]string, existing map[string]*account, logger *slog.Logger) (*embedded, error) {
	passwords := make(map[string]password, len(users))
	accounts := make(map[string]*account, len(users))
	for name, text := range users {
		p, err := parsePassword(text)
		if err != nil {
			return nil, fmt.Errorf("user %q: %w", name, err)
		}
		passwords[name] = p
		if accounts[name] = existing[name]; accounts[name] == nil {
			accounts[name] = newAccount(name)
		}
	}
	e := &embedded{
		logger:   logger,
		checker:  newPasswordChecker(passwords),
		accounts: accounts,
		listener: newPipeListener(),
		stopping: make(chan struct{}),
	}
	e.server = imapserver.New(&imapserver.Options{
		NewSession: func(conn *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &mailSession{server: e, conn: conn}, nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		Logger:       serverLogger{logger},
		InsecureAuth: true, // whether TLS comes first is decided where the client's connection is
	})
	e.serving.Go(func() { e.server.Serve(e.listener) })
	<-e.listener.accepting // go-imap's Close must not be called while Serve begins
	return e, nil
}

// dial opens a connection to the server for a client.
func (e *embedded) dial(_ context.Context, from origin) (backendConn, error) {
	ours, theirs := newPipe(net.TCPAddrFromAddrPort(from.client))
	e.sessions.Add(1) // its Done is in mailSession.Close, which go-imap calls for every connection that it has accepted
	if err := e.listener.offer(newServerConn(theirs)); err != nil {
		e.sessions.Done()
		return nil, err
	}
	return ours, nil
}

func (e *embedded) health() error { return nil }

func (e *embedded) String() string { return "embedded" }

// close ends the connections that are left and waits for their goroutines.
func (e *embedded) close() {
	e.stop.Do(func() { close(e.stopping) })
	e.server.Close()
	e.serving.Wait()
	e.sessions.Wait()
}

// loginRefused logs a wrong password, and never which.
func (e *embedded) loginRefused(client, username string) {
	if allowed, suppressed := e.refusals.Allow(time.Now()); allowed {
		e.logger.Warn("login refused", "client", client, "username", clip(username, maxUsernameLen), "suppressed", suppressed)
	}
}

// clip shortens s to n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// serverLogger is what go-imap's server logs to. It reports what clients do wrong, which is for debugging, and its own
// panics, which somebody has to look at.
type serverLogger struct{ logger *slog.Logger }

func (l serverLogger) Printf(format string, args ...any) {
	level := slog.LevelDebug
	if strings.HasPrefix(format, "panic") {
		level = slog.LevelError
	}
	l.logger.Log(context.Background(), level, "embedded IMAP server", "err", fmt.Sprintf(format, args...))
}
