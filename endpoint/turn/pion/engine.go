package pion

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/pionturn"
)

// Main runs in the engine's process, which an Endpoint has started. It reads its configuration from stdin, serves on the inherited
// descriptors, and writes messages to stdout. It returns nil after stdin is closed, and an error if it cannot serve, which it also
// sends to the Endpoint.
func Main(stdin io.Reader, stdout io.Writer) error {
	// Terminals and service managers send these to the whole process group. The Endpoint decides when the engine ends.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	out := &lockedWriter{w: stdout}
	tell := json.NewEncoder(out)
	input := json.NewDecoder(stdin)
	e, err := serve(input, slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		return errors.Join(err, tell.Encode(message{Failed: err.Error()}))
	}
	if err := tell.Encode(message{Ready: true}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, stdin) // until it is closed, or the process at the other end has ended
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit/2)
	defer cancel()
	return e.Shutdown(ctx)
}

// serve reads a configuration from input and starts an endpoint with it.
func serve(input *json.Decoder, logger *slog.Logger) (*turn.Endpoint, error) {
	c, err := decode(input)
	if err != nil {
		return nil, err
	}
	sockets, err := turn.Inherit(c, firstSocket)
	if err != nil {
		return nil, err
	}
	e, err := turn.NewOn(c, sockets, newServer, logger)
	if err != nil {
		return nil, err
	}
	logger.Info("pion/turn is the TURN engine; rows of the conformance table do not hold for it", "rows", strings.Join(pionturn.UnmetRows(), " "))
	return e, e.Start(context.Background())
}

// newServer returns the engine of an endpoint with the settings that pion supports. Decoding the endpoint has refused the others.
func newServer(c turnsrv.Config) (turn.Engine, error) {
	return pionturn.New(pionturn.Config{
		Realm:         c.Realm,
		Authenticator: c.Authenticator,
		Relay:         c.Relay,
		Quotas: pionturn.Quotas{
			MaxAllocations:          c.MaxAllocations,
			MaxAllocationsPerUser:   c.MaxAllocationsPerUser,
			MaxAllocationsPerSource: c.MaxAllocationsPerSource,
		},
		ExpiredGrace: c.ExpiredGrace,
		MaxStreams:   c.MaxStreams,
		Logger:       c.Logger,
	})
}

// lockedWriter keeps lines of different goroutines apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
