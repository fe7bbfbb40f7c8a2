package limit

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func takes(l *Sources, source netip.Prefix, now time.Time, n int) (taken int) {
	for range n {
		if l.Take(source, 1, now) {
			taken++
		}
	}
	return taken
}

func TestSourcesRate(t *testing.T) {
	start := time.Unix(1758650868, 0)
	l := NewSources(100*time.Millisecond, 20, start)
	one := Network(netip.MustParseAddr("192.0.2.1"))
	other := Network(netip.MustParseAddr("192.0.3.1"))
	if got := takes(l, one, start, 100); got != 20 {
		t.Errorf("%d at once, want 20", got)
	}
	if got := takes(l, other, start, 5); got != 5 {
		t.Errorf("another source gets %d, want 5", got)
	}
	// Refused requests cost nothing: one token per tenth of a second is refilled under any load.
	got := 0
	for i := range 100 {
		got += takes(l, one, start.Add(time.Duration(i)*10*time.Millisecond), 10)
	}
	if got != 9 {
		t.Errorf("%d in the next 990 ms, want 9", got)
	}
	if got := takes(l, one, start.Add(time.Hour), 100); got != 20 {
		t.Errorf("%d at once after an hour, want 20", got)
	}
	// The clock goes back by two hours.
	if got := takes(l, one, start.Add(-time.Hour), 100); got != 0 {
		t.Errorf("%d after the clock went back, want 0", got)
	}
	if got := takes(l, one, start.Add(-time.Hour+2*time.Second), 100); got != 20 {
		t.Errorf("%d two seconds later, want 20", got)
	}
}

// A limited source stays limited, and a new source gets a bucket of its own, during a flood from a million other sources.
func TestSourcesUnderFlood(t *testing.T) {
	now := time.Unix(1758650868, 0)
	l := NewSources(time.Second, 10, now)
	victim := netip.MustParsePrefix("203.0.113.0/24")
	takes(l, victim, now, 10)
	got := 0
	for i := range uint32(1 << 20) {
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], i<<8)
		if !l.Take(netip.PrefixFrom(netip.AddrFrom4(raw), 24), 1, now) {
			t.Fatalf("new source %d has no token", i)
		}
		got += takes(l, victim, now, 1)
	}
	if got != 0 {
		t.Errorf("the flood got %d more answers for the victim, want none", got)
	}
}

func TestSourcePrefixes(t *testing.T) {
	for _, tt := range []struct {
		addr, network, host string
	}{
		{"192.0.2.77", "192.0.2.0/24", "192.0.2.77/32"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1::/48", "2001:db8:1:2::/64"},
		{"fe80::1%eth0", "fe80::/48", "fe80::/64"},
	} {
		addr := netip.MustParseAddr(tt.addr)
		if got := Network(addr).String(); got != tt.network {
			t.Errorf("network of %s is %s, want %s", addr, got, tt.network)
		}
		if got := Host(addr).String(); got != tt.host {
			t.Errorf("host of %s is %s, want %s", addr, got, tt.host)
		}
	}
}
