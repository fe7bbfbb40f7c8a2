package turn

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mailturn/mailturn/framework/listen"
)

// TestRelayAddressIsLost checks Health and the log when the machine loses the relay's address, and gets it back.
func TestRelayAddressIsLost(t *testing.T) {
	var logged bytes.Buffer
	e, err := New(loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"}), slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	var outcome atomic.Pointer[error]
	set := func(err error) { outcome.Store(&err) }
	set(nil)
	e.tryBind = func(netip.Addr) error { return *outcome.Load() }
	watch := &fakeWatch{tell: make(chan struct{}), closed: make(chan struct{})}
	e.watchLocal = func() (localWatch, error) { return watch, nil }
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := fmt.Errorf("listen udp: %w", os.NewSyscallError("bind", syscall.EADDRNOTAVAIL))
	for _, step := range []struct {
		outcome error
		healthy bool
	}{
		{nil, true},
		{syscall.EMFILE, true},
		{gone, false},
		{gone, false},
		{syscall.EMFILE, false},
		{nil, true},
	} {
		set(step.outcome)
		for range 3 { // the third is taken after the addresses were looked at for the first
			watch.tell <- struct{}{}
		}
		err := e.Health()
		if (err == nil) != step.healthy || err != nil && !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("binding fails with %v: %v", step.outcome, err)
		}
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"relay address is gone from this machine", "relay address is back"} {
		lines := 0
		for line := range strings.Lines(logged.String()) {
			if strings.Contains(line, want) && strings.Contains(line, "relay_ip=127.0.0.1") {
				lines++
			}
		}
		if lines != 1 {
			t.Errorf("%d lines say %q, want one that names the address:\n%s", lines, want, &logged)
		}
	}
}
