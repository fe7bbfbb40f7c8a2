// Package moduletest runs endpoints in tests, and checks their schemas.
package moduletest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/module"
)

// patience is long enough for an overloaded machine.
const patience = time.Minute

// Start creates an endpoint with construct and starts it. It is shut down at the end of the test, unless the test has done so.
func Start[C any, E module.Endpoint](t testing.TB, construct func(C, *slog.Logger) (E, error), c C) E {
	t.Helper()
	e, err := construct(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return e
}

// SocketDir returns a directory that is removed at the end of the test. Its name is shorter than that of t.TempDir, which may be
// too long for a socket.
func SocketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mailturn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Reload gives a running endpoint another configuration, and fails the test on an error.
func Reload[C any](t testing.TB, e module.Reloader[C], c C) {
	t.Helper()
	change, err := e.Prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
}
