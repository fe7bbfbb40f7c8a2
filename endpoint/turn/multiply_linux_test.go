package turn

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/stun"
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

// TestSocketForAllWorkers starts an endpoint on a system without SO_REUSEPORT. It says so, and serves its clients.
func TestSocketForAllWorkers(t *testing.T) {
	c := decode(t, `hostname = "example.org"
		endpoint "turn" {
			listen   = ["udp://127.0.0.1:0"]
			relay_ip = "127.0.0.1"
			secret   = "secret"
			workers  = 3
		}`)
	sockets, err := open(t.Context(), c, func(int) error { return syscall.ENOPROTOOPT })
	if err != nil || len(sockets) != 1 {
		t.Fatalf("%d sockets, %v", len(sockets), err)
	}
	var log bytes.Buffer
	e, err := NewOn(c, sockets, newServer, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	to := sockets[0].Packets.LocalAddr().String()
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var binding stun.Builder
	binding.Start(stun.MethodBinding, stun.ClassRequest, stun.TransactionID{1})
	_, _ = client.Write(binding.Bytes())
	_ = client.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := client.Read(make([]byte, 1500)); err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "one worker serves all clients"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, log.String())
	}
}
