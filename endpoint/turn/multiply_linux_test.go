package turn

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"testing"

	"github.com/mailturn/mailturn/framework/config"
)

// TestSocketForEachWorker opens the sockets of an endpoint with several workers, and checks that a second endpoint cannot bind the
// address.
func TestSocketForEachWorker(t *testing.T) {
	for _, address := range []string{"udp://127.0.0.1:0", "udp://0.0.0.0:0", "udp://[::1]:0", "udp://[::]:0"} {
		c := decode(t, `hostname = "example.org"
			endpoint "turn" {
				listen  = ["`+address+`"]
				secret  = "secret"
				workers = 3
			}`)
		sockets, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		local := sockets[0].Packets.LocalAddr().String()
		for _, s := range sockets {
			if got := s.Packets.LocalAddr().String(); got != local {
				t.Errorf("a socket is bound to %s, want %s", got, local)
			}
		}
		if len(sockets) != 3 {
			t.Errorf("%s: %d sockets, want 3", address, len(sockets))
		}
		c.Listen[0].Port = uint16(sockets[0].Packets.LocalAddr().(*net.UDPAddr).Port)
		if more, err := Open(t.Context(), c); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: a second endpoint got %d sockets, %v", address, len(more), err)
			_ = closeAll(more)
		}
		if err := closeAll(sockets); err != nil {
			t.Error(err)
		}
	}
}

// decode returns the configuration of the only endpoint in body.
func decode(t *testing.T, body string) Config {
	t.Helper()
	file, diags := config.Parse("maddy.conf", []byte(body))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	c, diags := Decode(file.Endpoints[0], Defaults{Hostname: "example.org"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if _, err := New(c, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return c
}
