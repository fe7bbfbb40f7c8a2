package privacy

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func newMask(settings Settings) *Mask {
	m := New(settings)
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	m.now = func() time.Time { return now }
	return m
}

func TestShorten(t *testing.T) {
	m := newMask(Settings{Shorten, Shorten})
	for _, tt := range []struct{ text, want string }{
		{"198.51.100.7", "198.51.100.0/24"},
		{"198.51.100.7:50000", "198.51.100.0/24"},
		{"[2001:db8:1:2::7]:443", "2001:db8:1::/48"},
		{"2001:db8:1:2::7", "2001:db8:1::/48"},
		{"::ffff:198.51.100.7", "198.51.100.0/24"},
		{"fe80::1%eth0", "fe80::/48"},
		{"read tcp 127.0.0.1:993->198.51.100.7:50000: connection reset", "read tcp 127.0.0.1:993->198.51.100.0/24: connection reset"},
		{"dial udp [2001:db8:1:2::7]:443: no route", "dial udp 2001:db8:1::/48: no route"},
		{"from 198.51.100.7.", "from 198.51.100.0/24."},
		{"from 198.51.100.7: refused", "from 198.51.100.0/24: refused"},
		{"(198.51.100.7)", "(198.51.100.0/24)"},
		{"lookup 7.100.51.198.in-addr.arpa", "lookup 7.100.51.198.in-addr.arpa"},
		{"198.51.100.128/25", "198.51.100.0/24"},
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"udp://198.51.100.7:3478", "udp://198.51.100.0/24"},
		{"https://198.51.100.7/turn", "https://198.51.100.0/24/turn"},
		{"client:198.51.100.7", "client:198.51.100.0/24"},
		{"client:198.51.100.7:50000", "client:198.51.100.0/24"},
		{"198.51.100.7:50000:read", "198.51.100.0/24:read"},
		{"turn:198.51.100.7:3478?transport=udp", "turn:198.51.100.0/24?transport=udp"},
		{"from:2001:db8:1:2::7", "from:2001:db8:1::/48"},
		{"2001:db8:1:2::7:read:198.51.100.7:1", "2001:db8:1::/48:read:198.51.100.0/24"},
		{"client:[2001:db8:1:2::7]:50000:read", "client:2001:db8:1::/48:read"},
		{"[IPv6:2001:db8:1:2::7]", "[IPv6:2001:db8:1::/48]"},
		{"client[2001:db8:1:2:3:4:5::]:50000", "client2001:db8:1::/48"},
		{"at:[198.51.100.7]", "at:[198.51.100.0/24]"},
		{"GET /198.51.100.7", "GET /198.51.100.0/24"},
		{"std::sort at 12:34:56:789", "std::sort at 12:34:56:789"},
		{"0.0.0.0:3478 and [::]:3478", "0.0.0.0:3478 and [::]:3478"},
		{"at 12:34:56, 1.2.3, dead:beef, faded", "at 12:34:56, 1.2.3, dead:beef, faded"},
		{`unknown user "alice@example.org"`, `unknown user "a…@example.org"`},
		{"@ and alice@ and @example.org", "@ and alice@ and @example.org"},
		{"", ""},
	} {
		if got := m.Text(tt.text); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.text, got, tt.want)
		}
	}
	if a, b, c := m.Account("alice@example.org"), m.Account("1796031863"), m.Account("ölaf"); a != "a…@example.org" || b != "1…" || c != "ö…" {
		t.Errorf("accounts become %q, %q and %q", a, b, c)
	}
}

func TestHash(t *testing.T) {
	m := newMask(Settings{Hash, Hash})
	at := netip.MustParseAddrPort("198.51.100.7:50000")
	a := m.AddrPort(at)
	if a != m.Addr(at.Addr()) || a != m.Text(at.String()) || !strings.HasPrefix(a, "address-") || len(a) != len("address-")+12 {
		t.Errorf("the address becomes %q, %q and %q", a, m.Addr(at.Addr()), m.Text(at.String()))
	}
	alice := m.Account("alice@example.org")
	if alice != m.Account("Alice@example.org") || alice == m.Account("bob@example.org") || strings.Contains(alice, "alice") {
		t.Errorf("alice becomes %q", alice)
	}
	if other := newMask(Settings{Hash, Hash}); other.Account("alice@example.org") == alice || other.AddrPort(at) == a {
		t.Error("another process has the same key")
	}
	today := m.now()
	m.now = func() time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) }
	if m.AccountOn(today, "alice@example.org") != alice {
		t.Error("the day before no longer has its key")
	}
	if m.Account("alice@example.org") == alice || m.AddrPort(at) == a {
		t.Error("the next day has the same key")
	}
	if m.Account("") != "" || m.Addr(netip.Addr{}) != "invalid IP" || m.Addr(netip.MustParseAddr("::1")) != "::1" {
		t.Error("what is nobody's is hashed")
	}
}

func TestIsMasked(t *testing.T) {
	for _, modes := range []Settings{{Shorten, Shorten}, {Hash, Hash}} {
		m := newMask(modes)
		for _, account := range []string{"alice@example.org", "ölaf", "1796031863", "a"} {
			if masked := m.Account(account); !m.IsMasked(masked) || m.IsMasked(account) {
				t.Errorf("%s: %q is %t, %q is %t", modes.Accounts, masked, m.IsMasked(masked), account, m.IsMasked(account))
			}
		}
		for _, name := range []string{"", "@", "account-", "account-82a38289418", "account-82a38289418g", "a……@example.org"} {
			if m.IsMasked(name) {
				t.Errorf("%s: %q is masked", modes.Accounts, name)
			}
		}
	}
	if newMask(Settings{None, None}).IsMasked("a…@example.org") {
		t.Error("accounts are not masked, but something has the form of one that is")
	}
}

func TestUnmasked(t *testing.T) {
	for _, m := range []*Mask{nil, New(Settings{None, None})} {
		const text = "198.51.100.7:50000 alice@example.org"
		if m.Text(text) != text || m.Account("alice") != "alice" || m.AddrPort(netip.MustParseAddrPort("198.51.100.7:1")) != "198.51.100.7:1" {
			t.Error("something is masked")
		}
	}
	if _, err := ParseMode("shorter"); err == nil {
		t.Error("an unknown mode is accepted")
	}
}

// TestLogger checks that addresses and accounts are masked wherever they are in a line.
func TestLogger(t *testing.T) {
	var out strings.Builder
	m := newMask(Settings{Shorten, Shorten})
	logger := m.Logger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	addr := netip.MustParseAddr("198.51.100.7")
	logger = logger.With("client", addr.String(), "account", "alice@example.org").WithGroup("g").With("username", "1796031863")
	logger.Warn("wrong password", "peer", addr, "at", netip.AddrPortFrom(addr, 1), "list", []netip.Addr{addr}, "err", errors.New("read 198.51.100.7:5: reset"),
		"allocation", slog.GroupValue(slog.String("client", "198.51.100.7:9"), slog.Any("user", slog.StringValue("alice"))), "count", 7,
		"relay", "198.51.100.9:50000")
	line := out.String()
	for _, secret := range []string{"198.51.100.7", "alice", "1796031863"} {
		if strings.Contains(line, secret) {
			t.Errorf("the line has %q: %s", secret, line)
		}
	}
	for _, want := range []string{"client=198.51.100.0/24", "account=a…@example.org", "g.allocation.client=198.51.100.0/24", "g.allocation.user=a…", "g.count=7", "g.relay=198.51.100.9:50000"} {
		if !strings.Contains(line, want) {
			t.Errorf("the line lacks %q: %s", want, line)
		}
	}
	out.Reset()
	m.Apply(Settings{None, None})
	logger.Info("again", "peer", addr)
	if !strings.Contains(out.String(), "peer=198.51.100.7") {
		t.Errorf("after the settings were changed: %s", out.String())
	}
}

// survivor returns an address of somebody that a word is, or that its part before or after a colon is.
func survivor(word string) (found netip.Addr, ok bool) {
	parts := []string{word}
	for i := range len(word) {
		if word[i] == ':' {
			parts = append(parts, word[:i], word[i+1:])
		}
	}
	for _, part := range parts {
		at, err := netip.ParseAddrPort(part)
		found := at.Addr()
		if err != nil {
			found, err = netip.ParseAddr(part)
		}
		if err == nil && !isNobodys(found) {
			return found, true
		}
	}
	return found, false
}

// FuzzText checks that a text without addresses and mailboxes stays as it is, and that no address survives as a word of its own, or
// before or after a colon.
func FuzzText(f *testing.F) {
	for _, text := range []string{"198.51.100.7", "[2001:db8::1]:443 x", "a:b::c/d@e", "://[", "1.2.3.4/33:1.2.3.4", "client:198.51.100.7:50000", "198.51.100.7:50000:read",
		"from:2001:db8:1:2::7", "[IPv6:2001:db8:1:2::7]", "a[2001:db8::7]:443:b:[::ffff:1.2.3.4]", "/1.2.3.4:x", "2001:db8::", ":::2", "0:::0:A", strings.Repeat("/1.2.3.4", 50)} {
		f.Add(text)
	}
	m := newMask(Settings{Hash, Hash})
	f.Fuzz(func(t *testing.T, text string) {
		masked := m.Text(text)
		if len(text) <= maxToken {
			for _, word := range strings.Fields(masked) {
				if found, ok := survivor(word); ok {
					t.Errorf("%q becomes %q, which has %v", text, masked, found)
				}
			}
		}
		if !strings.ContainsAny(text, "0123456789:@") && masked != text {
			t.Errorf("%q becomes %q", text, masked)
		}
	})
}

// TestLongText checks that a long text, which a stranger may send, takes little time.
func TestLongText(t *testing.T) {
	m := newMask(Settings{Hash, Hash})
	begin := time.Now()
	for _, piece := range []string{"a/", "1.", ":", "[", "@", "1.2.3.4/", strings.Repeat("1:", maxToken/2-1) + "/"} {
		m.Text(strings.Repeat(piece, 1<<17/len(piece)))
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
