package party_test

import (
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party/partytest"
)

func TestPages(t *testing.T) {
	r := partytest.StartRelay(t)
	for _, kind := range []browser.Kind{browser.Chromium, browser.Firefox} {
		t.Run(string(kind), func(t *testing.T) {
			caller, callee := page(t, kind), page(t, kind)
			for _, transport := range []string{"udp", "tcp"} {
				partytest.Call(t, r, transport, caller, callee, true)
			}
		})
	}
}

func page(t *testing.T, kind browser.Kind) *party.Party {
	t.Helper()
	program, err := kind.Program()
	if err != nil {
		lacks(t, "%v: apt-get install %s", err, kind)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := browser.Start(t.Context(), browser.Options{Kind: kind, Program: program, Dir: t.TempDir(), Command: exec.Command, Listener: listener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console of %s:\n%s", kind, b.Console())
		}
	})
	p, err := party.In(t.Context(), b, partytest.Size, partytest.Rate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// lacks skips a test for which something is missing, or fails it where nothing may be missing.
func lacks(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("MAILTURN_E2E") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
