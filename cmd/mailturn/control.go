package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/framework/socket"
)

const (
	// controlSocket is the name of the socket if the configuration specifies none.
	controlSocket = "control.socket"
	// controlGroup is the group of the socket if the configuration specifies none. The Debian package creates it.
	controlGroup = "mailturn-admin"
)

// decodeControl takes where the socket for mailturn ctl is, and who may connect to it.
func (s *setup) decodeControl(c config.Control) hcl.Diagnostics {
	s.control = c
	if c.Record.V > 0 && s.stateDir == "" {
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.Record.Range, "Record has no directory", "It is kept in the state directory."), "set state_dir")}
	}
	if c.Usage.V > 0 && s.stateDir == "" {
		return hcl.Diagnostics{config.WithHint(config.Errorf(c.Usage.Range, "Usage has no directory", "It is kept in the state directory."), "set state_dir")}
	}
	if !c.Enable.V {
		return nil
	}
	dir := cmp.Or(runtimeDir(), s.stateDir)
	if !c.Path.Set && dir == "" {
		return nil
	}
	attributes := socket.Attributes{Path: c.Path, Mode: c.Mode, Group: c.Group}
	if !c.Path.Set {
		attributes.Path = config.Value[string]{V: controlSocket, Set: true}
	}
	decoded, diags := socket.Decode(attributes, c.Range)
	s.controlAt = decoded
	if !c.Path.Set { // nobody has asked for this path, so if it is too long, listen says so in the log
		s.controlAt.Path = filepath.Join(dir, controlSocket)
	}
	return diags
}

// runtimeDir is the first directory of systemd's RuntimeDirectory=, empty if there is none.
func runtimeDir() string {
	first, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return first
}

// memberOf returns the ID of a group that this process may give files to, because it is a member or root, and -1 if there is no
// such group.
func memberOf(group string) int {
	g, err := user.LookupGroup(group)
	if err != nil {
		return -1
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	if groups, err := os.Getgroups(); os.Geteuid() != 0 && id != os.Getegid() && (err != nil || !slices.Contains(groups, id)) {
		return -1
	}
	return id
}

// operators lets operators inspect and change a service over the control socket.
type operators struct {
	service *service
	logger  *slog.Logger
	started time.Time
	// reloadService reloads the configuration on the goroutine of serve, writes its diagnostics, and returns what has changed in
	// the file. It is nil where there is no file.
	reloadService func(diagnostics io.Writer) (changes []string, err error)

	// upgradeService makes another process serve, on the goroutine of serve. It is nil where none can.
	upgradeService func() (handedOver, error)

	requests chan func()   // for the goroutine of serve, which owns most of service
	changes  chan func()   // of the bans, for the same goroutine, which makes them even while it waits for another process to start
	stopped  chan struct{} // closed when that goroutine takes no more requests
}

func newOperators(r *service) *operators {
	return &operators{
		service: r, logger: r.logger, started: time.Now(), requests: make(chan func()), changes: make(chan func()),
		stopped: make(chan struct{}),
	}
}

// listen listens on the socket of the configuration, until stop is called. A default path that cannot be used is no reason not to
// serve: the log says so.
func (o *operators) listen(ctx context.Context, s *setup) (stop func(), err error) {
	stop = func() { close(o.stopped) }
	if !s.control.Enable.V || s.controlAt.Path == "" {
		return stop, nil
	}
	at := s.controlAt
	if !s.control.Group.Set {
		at.GID = memberOf(controlGroup)
	}
	server, err := control.Listen(ctx, at, o.handler(), o.logger)
	switch {
	case err == nil:
		o.logger.Info("listening for mailturn ctl", "listen", s.controlAt.Path)
		return func() {
			close(o.stopped)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := server.Close(ctx); err != nil {
				o.logger.Warn("closing the control socket", "err", err)
			}
		}, nil
	case s.control.Path.Set:
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		o.logger.Info("no control socket: its directory does not exist", "listen", s.controlAt.Path)
	default:
		o.logger.Warn("no control socket", "err", err)
	}
	return stop, nil
}

// handler routes the requests. docs/control.md documents them.
func (o *operators) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, answer control.Answer) { mux.Handle(pattern, control.Handler(answer)) }
	// Those whose responses may list all sessions. A change waits for no list.
	lists, changes := control.NewGate(), control.NewGate()
	list := func(pattern string, answer control.Answer) { mux.Handle(pattern, lists.Handler(answer)) }
	change := func(pattern string, answer control.Answer) { mux.Handle(pattern, changes.Handler(answer)) }
	handle("GET /v1/status", o.status)
	handle("POST /v1/reload", o.reload)
	handle("POST /v1/upgrade", o.upgrade)
	handle("POST /v1/cluster/upgrade", o.upgradeOther)
	handle("PUT /v1/log-level", o.setLogLevel)
	handle("PUT /v1/draining", o.setDraining)
	handle("POST /v1/credentials", o.issueCredential)
	list("GET /v1/sessions", o.sessions)
	list("GET /v1/cluster", o.listCluster)
	list("GET /v1/holders", o.holders)
	list("GET /v1/usage", o.usage)
	change("POST /v1/disconnect", o.disconnect)
	list("GET /v1/secrets", o.listSecrets)
	change("POST /v1/secrets", o.rotateSecret)
	list("GET /v1/bans", o.listBans)
	change("POST /v1/bans", o.makeBan)
	change("DELETE /v1/bans", o.liftBan)
	list("GET /v1/revocations", o.listRevocations)
	change("POST /v1/revocations", o.revoke)
	return mux
}

// do calls f on the goroutine of serve, and waits for it.
func (o *operators) do(ctx context.Context, f func()) error { return o.doBy(ctx, o.requests, f) }

func (o *operators) doBy(ctx context.Context, requests chan<- func(), f func()) error {
	done := make(chan struct{})
	select {
	case requests <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-o.stopped:
		return control.Errorf(http.StatusServiceUnavailable, "mailturn is stopping")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// inTurn calls f, which changes the bans, and returns its error. It does so on the goroutine of serve, and so not while calls are handed
// over: a successor that has read the bans would not know of the change, and overwrite it.
func (o *operators) inTurn(r *http.Request, f func() error) error {
	var failure error
	if err := o.doBy(r.Context(), o.changes, func() { failure = f() }); err != nil {
		return err
	}
	return failure
}

// changed logs a change with who made it.
func (o *operators) changed(r *http.Request, message string, args ...any) {
	o.logger.Info(message, append([]any{"by", control.CallerOf(r.Context()).String()}, args...)...)
}
