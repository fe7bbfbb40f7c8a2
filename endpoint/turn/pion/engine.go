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

// Main is the engine's process, which an Endpoint has started: it reads its configuration from stdin, serves on the descriptors that
// it has inherited, and writes messages to stdout. It returns nil when stdin is closed, and an error when it cannot serve, of which
// the Endpoint has been told.
func Main(stdin io.Reader, stdout io.Writer) error {
	// A terminal and a service manager send these to the whole group. The Endpoint decides when the engine ends.
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
	_, _ = io.Copy(io.Discard, stdin) // until it is closed, or whoever holds the other end has ended
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit/2)
	defer cancel()
	return e.Shutdown(ctx)
}

// serve starts the endpoint that input has the configuration of.
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

// newServer makes the engine of an endpoint, of which pion can do a part. Decoding the endpoint has refused the rest.
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

// lockedWriter keeps lines apart.
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
