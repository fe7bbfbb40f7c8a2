package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/ledger"
	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/endpoint/turn/pion"
	"github.com/mailturn/mailturn/framework/handoff"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

const (
	// checkLimit is how long the new program may take to check the configuration, and startLimit how long to start.
	checkLimit = 30 * time.Second
	startLimit = time.Minute
	// handOverLimit is how long calls may be interrupted. A successor that takes longer is ended. Longer than this, many packets do not
	// fit into the buffers of sockets.
	handOverLimit = time.Second
	// informLimit is how long the new process may take to read the state of the service, while calls go on.
	informLimit = 5 * time.Second
	// maxReport is the size limit of what the new program prints, in bytes.
	maxReport = 64 << 10
)

// Kinds of messages between a process and its successor, in this order. Package handoff has the sequence.
const (
	messageSockets  = "sockets"  // to the successor: the listening sockets
	messageReady    = "ready"    // from it: all endpoints have started
	messageService  = "service"  // to it: a serviceState
	messageInformed = "informed" // from it: it has read that. Only if serviceState.Answer
	messageRelay    = "relay"    // to it: the calls of one relay
	messageUsage    = "usage"    // to it: a sinceService. Only if takeoverReport.ReadsUsage
	messageEnd      = "end"      // to it: that is all
	messageDone     = "done"     // from it: it could serve
	messageGo       = "go"       // to it: it serves
	messageFailed   = "failed"   // from it, instead of ready or done: why not
)

// serviceState is what a service knows besides the calls of its relays, as JSON.
type serviceState struct {
	Accounts *credential.Accounts `json:"accounts"`
	Draining bool                 `json:"draining"`
	Usage    ledger.State         `json:"usage"`
	// BansChanged says that bans were made or lifted since the successor was started, which may have read them before.
	BansChanged bool `json:"bans_changed,omitempty"`
	// Answer says that the process waits for messageInformed.
	Answer bool `json:"answer,omitempty"`
}

// sinceService is what has happened since the serviceState was taken, as JSON: what was relayed, and the credentials that were issued.
type sinceService struct {
	ledger.Delta
	Issued []credential.Issued `json:"issued,omitempty"`
}

// predecessorVar is the environment variable that tells a process the descriptor of the connection to the process that it follows.
const predecessorVar = "MAILTURN_PREDECESSOR_FD"

// upgrade makes another process, of the program that is installed now, serve in place of this one.
type upgrade struct {
	service   *service
	sockets   *handoff.Sockets
	arguments []string // of the command run
	// announce is called with the process ID of the process that is going to serve, and again with that of this one if it does not.
	announce func(pid int)
	// changes are changes of the bans. They do not wait for another process to start, which may hang.
	changes <-chan func()
	logger  *slog.Logger
}

// handedOver is the result of an upgrade.
type handedOver struct {
	Version       string        `json:"version"`
	PID           int           `json:"pid"`
	Allocations   int           `json:"allocations"`
	InterruptedMS float64       `json:"interrupted_ms"`
	interrupted   time.Duration // how long no packet was relayed
	finish        func() error  // ends the relays of this process
}

// run returns when the other process serves. After an error, this process serves as before.
func (u *upgrade) run(ctx context.Context) (done handedOver, err error) {
	defer func() {
		if err != nil {
			u.logger.Error("upgrade failed: this process goes on", "err", err)
		}
	}()
	if err := u.possible(); err != nil {
		return done, err
	}
	program, err := os.Executable() // where it was, if it has been replaced
	if err != nil {
		return done, err
	}
	var report takeoverReport
	var version int
	if _, err = u.during(u.changes, func() (err error) {
		report, version, err = u.check(ctx, program)
		return err
	}); err != nil {
		return done, fmt.Errorf("%s cannot take over: %w", program, err)
	}
	u.logger.Info("upgrading", "program", program, "version", report.Version)
	next, err := u.start(program)
	if err != nil {
		return done, fmt.Errorf("start %s: %w", program, err)
	}
	defer context.AfterFunc(ctx, func() { _ = next.conn.Close() })()
	changes := u.changes
	if !report.ReadsBansAgain {
		changes = nil
	}
	bansChanged, err := u.during(changes, func() error { return u.awaitReady(next) })
	if err == nil {
		done, err = u.handOver(next, report, version, bansChanged)
	}
	if err != nil {
		next.kill()
		return done, err
	}
	done.Version = report.Version
	done.InterruptedMS = float64(done.interrupted.Microseconds()) / 1000
	u.logger.Info("upgraded", "version", done.Version, "pid", done.PID, "allocations", done.Allocations, "interrupted", done.interrupted)
	return done, nil
}

// during calls f, and meanwhile makes changes. It returns whether there were any.
func (u *upgrade) during(changes <-chan func(), f func() error) (changed bool, err error) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	for {
		select {
		case change := <-changes:
			change()
			changed = true
		case err := <-done:
			return changed, err
		}
	}
}

// possible returns why this process can have no successor, or nil.
func (u *upgrade) possible() error {
	if os.Getpid() == 1 {
		return errors.New("the first process of a container cannot be replaced: start the container again")
	}
	for _, name := range slices.Sorted(maps.Keys(u.service.running)) {
		if _, ok := u.service.running[name].(*pion.Endpoint); ok {
			return fmt.Errorf(`%s has engine = "pion", whose calls cannot be handed over: restart mailturn`, name)
		}
	}
	return nil
}

// check asks the program whether it can take over, and returns the version of the state to write for it.
func (u *upgrade) check(ctx context.Context, program string) (report takeoverReport, version int, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{takeoverCommand, "--check"}, u.arguments...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" && ctx.Err() == nil {
			return report, 0, errors.New(text[:min(len(text), maxReport)])
		}
		return report, 0, err
	}
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		return report, 0, fmt.Errorf("its answer is not as expected: %w", err)
	}
	version, err = report.stateVersion()
	return report, version, err
}

// successor is a process that has been started to follow this one.
type successor struct {
	process *os.Process
	conn    handoff.Conn
}

// start starts the program.
func (u *upgrade) start(program string) (*successor, error) {
	conn, theirs, err := handoff.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	process, err := os.StartProcess(program, append([]string{program, "run"}, u.arguments...), &os.ProcAttr{
		Env:   append(os.Environ(), predecessorVar+"=3"),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, theirs},
		Sys:   siblingProcess(),
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &successor{process, conn}, nil
}

// kill ends the process.
func (s *successor) kill() {
	_ = s.conn.Close()
	_ = s.process.Kill()
	_, _ = s.process.Wait() // fails if the process is not a child of this one: see siblingProcess
}

// send sends a message. If the process has ended, the error is why.
func (s *successor) send(m handoff.Message, deadline time.Time) error {
	err := s.conn.Send(m, deadline)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		if ended := s.expect(messageDone, time.Second); ended != nil {
			return ended
		}
	}
	return err
}

// expect receives a message of a kind.
func (s *successor) expect(kind string, within time.Duration) error {
	m, err := s.conn.Receive(time.Now().Add(within))
	if errors.Is(err, syscall.ECONNRESET) { // it has ended, and left something unread; what it said last comes now
		m, err = s.conn.Receive(time.Now().Add(within))
	}
	defer handoff.CloseAll(m.Descriptors)
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the new process has ended: its messages are in the log")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the new process was not %s after %v", kind, within)
	case err != nil:
		return err
	case m.Kind == messageFailed:
		return fmt.Errorf("the new process: %s", m.Name)
	case m.Kind != kind:
		return fmt.Errorf("the new process says %q instead of %q", m.Kind, kind)
	}
	return nil
}

// awaitReady passes the listening sockets to the other process, and waits until its endpoints have started.
func (u *upgrade) awaitReady(next *successor) error {
	deadline := time.Now().Add(startLimit)
	err := u.sockets.Export(func(names []string, descriptors []int) error {
		return next.send(handoff.Message{Kind: messageSockets, Names: names, Descriptors: descriptors}, deadline)
	})
	if err != nil {
		return err
	}
	return next.expect(messageReady, startLimit)
}

// sendService passes the state of the service to the other process. It returns what was relayed before.
func (u *upgrade) sendService(next *successor, report takeoverReport, bansChanged bool) (relayed ledger.State, err error) {
	relayed = u.service.book.State()
	if report.ReadsUsage {
		u.service.accounts.Record()
	}
	state, err := json.Marshal(serviceState{&u.service.accounts, u.service.draining.Load(), relayed, bansChanged, report.ReadsUsage})
	if err != nil {
		return relayed, err
	}
	err = next.send(handoff.Message{Kind: messageService, Body: state}, time.Now().Add(informLimit))
	if err == nil && report.ReadsUsage {
		err = next.expect(messageInformed, informLimit)
	}
	return relayed, err
}

// sendUsage passes on what has happened since sendService. An earlier program does not count that.
func (u *upgrade) sendUsage(next *successor, report takeoverReport, relayed ledger.State, deadline time.Time) error {
	if !report.ReadsUsage {
		return nil
	}
	since, err := json.Marshal(sinceService{u.service.book.Since(relayed), u.service.accounts.Recorded()})
	if err != nil {
		return err
	}
	return next.conn.Send(handoff.Message{Kind: messageUsage, Body: since}, deadline)
}

// handOver passes the calls to the other process, which serves when it returns without an error. What takes long for many users, the
// state of the service, goes first, while the relays still relay.
func (u *upgrade) handOver(next *successor, report takeoverReport, version int, bansChanged bool) (done handedOver, err error) {
	relayed, err := u.sendService(next, report, bansChanged)
	if err != nil {
		return done, err
	}
	var suspended []*turn.Suspended
	u.service.ports.Pause() // what arrives now is for the process that will serve
	resume := func() {
		u.service.ports.Resume()
		for _, s := range suspended {
			s.Resume()
		}
	}
	start := time.Now()
	deadline := start.Add(handOverLimit)
	defer func() {
		if err != nil && time.Now().After(deadline) {
			err = fmt.Errorf("%w: calls would have been interrupted for more than %v; try again when the machine is less busy", err, handOverLimit)
		}
	}()
	for _, relay := range u.service.movableRelays() {
		done.Allocations += relay.allocations()
		s, err := relay.endpoint.Suspend(version)
		if err != nil {
			resume()
			return done, fmt.Errorf("%s: %w", relay.name, err)
		}
		suspended = append(suspended, s)
		state, descriptors, err := s.State()
		if err == nil {
			err = next.send(handoff.Message{Kind: messageRelay, Name: relay.name, Body: state, Descriptors: descriptors}, deadline)
		}
		if err != nil {
			resume()
			return done, fmt.Errorf("%s: %w", relay.name, err)
		}
	}
	err = errors.Join(
		u.sendUsage(next, report, relayed, deadline),
		next.conn.Send(handoff.Message{Kind: messageEnd}, deadline))
	if expected := next.expect(messageDone, time.Until(deadline)); expected != nil { // which may say why Send has failed
		err = expected
	}
	if err == nil {
		u.announce(next.process.Pid) // before the other process reports to the service manager
		if err = next.send(handoff.Message{Kind: messageGo}, deadline); err != nil {
			u.announce(os.Getpid())
		}
	}
	if err != nil {
		resume()
		return done, err
	}
	done.interrupted = time.Since(start)
	done.PID = next.process.Pid
	u.sockets.SetShared(true)
	_ = next.process.Release()
	done.finish = func() (err error) {
		for _, s := range suspended {
			err = errors.Join(err, s.Release())
		}
		return errors.Join(err, next.conn.Close())
	}
	return done, nil
}

// movableRelay is a relay of the service.
type movableRelay struct {
	name     string
	endpoint *turn.Endpoint
}

func (r movableRelay) allocations() int {
	c, _ := r.endpoint.Counters()
	return c.Allocations
}

// movableRelays returns the relays with mailturn's own engine.
func (r *service) movableRelays() (all []movableRelay) {
	for _, name := range slices.Sorted(maps.Keys(r.running)) {
		if relay, ok := r.running[name].(*turn.Endpoint); ok {
			all = append(all, movableRelay{name, relay})
		}
	}
	return all
}

// programReplaced reports whether another program is installed at the path of this one.
func programReplaced() bool {
	running, err := os.Stat("/proc/self/exe")
	if err != nil {
		return false
	}
	path, err := os.Executable()
	if err != nil {
		return false
	}
	installed, err := os.Stat(path)
	return err == nil && !os.SameFile(running, installed)
}
