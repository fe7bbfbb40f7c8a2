package load

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/pionturn"
	"github.com/mailturn/mailturn/turnsrv/pionturn/pionturntest"
)

// startServer runs pion's server on loopback with a quota of allocations.
func startServer(t *testing.T, allowed int) string {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go pionturntest.New(t, pionturn.Quotas{MaxAllocations: allowed}).ServePacket(packets)
	return packets.LocalAddr().String()
}

func connectTo(address string) func(context.Context) (*turnclient.Client, error) {
	return func(context.Context) (*turnclient.Client, error) {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return nil, err
		}
		return turnclient.New(turnclient.Config{Conn: conn, Username: "alice", Password: "wonderland"}), nil
	}
}

func TestRun(t *testing.T) {
	told := false
	result, err := Run(t.Context(), Config{
		Connect: connectTo(startServer(t, 100)), Allocations: 6, PPS: 50, Size: 200, Duration: 1500 * time.Millisecond,
		Progress: func(sent, received int64) { told = sent > 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Sent < 3*50 || result.Sent > 3*80 || result.Received < result.Sent/2 || uint64(result.Received) != result.RTT.Count() || !told {
		t.Errorf("got %d of %d packets back, %d times, progress %v", result.Received, result.Sent, result.RTT.Count(), told)
	}
	if p50 := result.RTT.Percentile(50); p50 <= 0 || p50 > result.RTT.Max() || result.BitsPerSecond() <= 0 || result.Loss() < 0 {
		t.Errorf("median %v of at most %v, %v bit/s, loss %v", p50, result.RTT.Max(), result.BitsPerSecond(), result.Loss())
	}
}

// TestQuota checks that Run returns the server's error if the quota is too small.
func TestQuota(t *testing.T) {
	_, err := Run(t.Context(), Config{Connect: connectTo(startServer(t, 5)), Allocations: 20, PPS: 1, Size: 100, Duration: time.Second})
	if turnclient.Code(err) == 0 || !strings.Contains(err.Error(), "of 10") {
		t.Errorf("got %v, want the error response and the number of the pair", err)
	}
}

// TestInterrupt checks that an interrupted Run returns the result so far.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result, err := Run(ctx, Config{
		Connect: connectTo(startServer(t, 100)), Allocations: 2, PPS: 10, Size: 100, Duration: time.Minute,
		Progress: func(int64, int64) { cancel() },
	})
	if err != nil || result.Sent == 0 || result.Elapsed > 30*time.Second {
		t.Errorf("got %+v, %v", result, err)
	}
}

func TestBounds(t *testing.T) {
	good := Config{Allocations: 2, PPS: 1, Size: MinSize, Duration: time.Second}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(c *Config){
		"no allocation": func(c *Config) { c.Allocations = 0 }, "an odd number": func(c *Config) { c.Allocations = 3 }, "too many": func(c *Config) { c.Allocations = MaxAllocations + 2 },
		"no packets": func(c *Config) { c.PPS = 0 }, "too many packets": func(c *Config) { c.PPS = MaxPPS + 1 },
		"small": func(c *Config) { c.Size = MinSize - 1 }, "large": func(c *Config) { c.Size = MaxSize + 1 },
		"short": func(c *Config) { c.Duration = 0 }, "long": func(c *Config) { c.Duration = MaxDuration + 1 },
		"too much together": func(c *Config) { c.Allocations, c.PPS = 2000, 501 },
	} {
		c := good
		change(&c)
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
