package main

import (
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/ledger"
	"github.com/mailturn/mailturn/framework/handoff"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestSuccessorEndsEarly checks that an upgrade fails with the reason when the new process ends before it has read anything, whether it
// has said why or not.
func TestSuccessorEndsEarly(t *testing.T) {
	for _, tt := range []struct{ name, says, want string }{
		{"without a word", "", "the new process has ended"},
		{"with an error", "no room", "the new process: no room"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, theirs, err := handoff.Pair()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if tt.says != "" {
				fd, err := syscall.Dup(int(theirs.Fd()))
				if err != nil {
					t.Fatal(err)
				}
				other, err := handoff.FromDescriptor(fd)
				if err != nil {
					t.Fatal(err)
				}
				if err := other.Send(handoff.Message{Kind: messageFailed, Name: tt.says}, time.Now().Add(time.Second)); err != nil {
					t.Fatal(err)
				}
				other.Close()
			}
			theirs.Close()
			s := successor{conn: conn}
			if err := s.send(handoff.Message{Kind: messageSockets}, time.Now().Add(time.Second)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// pair returns the ends of a connection between a process and the one that follows it.
func pair(t *testing.T) (conn handoff.Conn, p predecessor) {
	t.Helper()
	conn, theirs, err := handoff.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fd, err := syscall.Dup(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if p.conn, err = handoff.FromDescriptor(fd); err != nil {
		t.Fatal(err)
	}
	return conn, p
}

// TestIssuedMeanwhile issues a credential after a process has passed on its state, and before calls are handed over: the next process
// knows whose it is, so that a ban of the account applies.
func TestIssuedMeanwhile(t *testing.T) {
	newService := func() *service {
		return &service{
			setup: &setup{stateDir: t.TempDir()}, sockets: handoff.NewSockets(nil, nil), logger: slog.New(slog.DiscardHandler),
			book: ledger.New("", nil, slog.New(slog.DiscardHandler)),
		}
	}
	before, after := newService(), newService()
	conn, p := pair(t)
	taken := make(chan error, 1)
	go func() { taken <- p.takeOver(t.Context(), after) }()
	next, u, report := &successor{conn: conn}, &upgrade{service: before}, takeoverReport{ReadsUsage: true}
	if err := next.expect(messageReady, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	relayed, err := u.sendService(next, report, false)
	if err != nil {
		t.Fatal(err)
	}
	issued := before.accounts.Issue(credential.Issuer{Secret: credential.NewSecret([]byte("a secret")), TTL: time.Hour}, "alice", time.Now())
	deadline := time.Now().Add(10 * time.Second)
	if err := u.sendUsage(next, report, relayed, deadline); err != nil {
		t.Fatal(err)
	}
	if err := conn.Send(handoff.Message{Kind: messageEnd}, deadline); err != nil {
		t.Fatal(err)
	}
	if err := next.expect(messageDone, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	<-taken
	if account, ok := after.accounts.Account(issued.Username); account != "alice" {
		t.Errorf("the user name belongs to %q, %v", account, ok)
	}
}

// TestBansReadAgain checks that a process knows bans that the one before has made since this one read them.
func TestBansReadAgain(t *testing.T) {
	r := &service{setup: &setup{stateDir: t.TempDir()}, sockets: handoff.NewSockets(nil, nil), logger: slog.New(slog.DiscardHandler)}
	var before bans
	for _, b := range []*bans{&r.bans, &before} {
		b.load(r.setup.stateDir, r.logger)
	}
	if _, err := before.add(banReport{Account: "alice", Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	conn, p := pair(t)
	taken := make(chan error, 1)
	go func() { taken <- p.takeOver(t.Context(), r) }()
	for _, m := range []handoff.Message{{Kind: messageService, Body: []byte(`{"bans_changed": true}`)}, {Kind: messageEnd}} {
		if err := conn.Send(m, time.Now().Add(10*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{messageReady, messageDone} {
		if m, err := conn.Receive(time.Now().Add(10 * time.Second)); err != nil || m.Kind != kind {
			t.Fatalf("got %q, %v, want %q", m.Kind, err, kind)
		}
	}
	conn.Close() // instead of saying that it may serve
	if err := <-taken; err == nil {
		t.Error("it serves")
	}
	if known := r.bans.current(); len(known) != 1 || known[0].Account != "alice" {
		t.Errorf("it knows the bans %+v", known)
	}
}
