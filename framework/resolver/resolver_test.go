package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// authority is a name server with a few records. It answers over UDP and TCP on one port of loopback.
type authority struct {
	addr netip.AddrPort

	mu        sync.Mutex // guards questions
	questions []string   // transport, name and type
}

// zone holds the records by owner. The names below have behaviours of their own.
const zone = `
a.test. 300 IN A 203.0.113.7
a.test. 600 IN AAAA 2001:db8::7
four.test. 60 IN A 203.0.113.4
six.test. 60 IN AAAA 2001:db8::6
alias.test. 30 IN CNAME next.test.
next.test. 40 IN CNAME a.test.
elsewhere.test. 50 IN CNAME other.test.
other.test. 70 IN CNAME a.test.
self.test. 1 IN CNAME self.test.
round.test. 1 IN CNAME about.test.
about.test. 1 IN CNAME round.test.
dangling.test. 1 IN CNAME gone.test.
text.test. 1 IN TXT "no address"
long.test. 1 IN CNAME long1.test.
`

func startAuthority(t *testing.T) *authority {
	t.Helper()
	records := make(map[string][]dns.RR)
	text := zone
	for i := 1; i < 30; i++ {
		text += fmt.Sprintf("long%d.test. 1 IN CNAME long%d.test.\n", i, i+1)
	}
	parser := dns.NewZoneParser(strings.NewReader(text), "", "")
	for record, ok := parser.Next(); ok; record, ok = parser.Next() {
		records[record.Header().Name] = append(records[record.Header().Name], record)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	a := &authority{}
	var listener net.Listener
	var packets net.PacketConn
	for packets == nil { // until a port is free for both
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if packets, err = net.ListenPacket("udp", listener.Addr().String()); err != nil {
			listener.Close()
		}
	}
	a.addr = netip.MustParseAddrPort(listener.Addr().String())
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { a.answer(w, q, records) })
	var serving sync.WaitGroup
	for _, server := range []*dns.Server{{Listener: listener, Handler: handler}, {PacketConn: packets, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		serving.Go(func() { server.ActivateAndServe() })
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	return a
}

func (a *authority) answer(w dns.ResponseWriter, q *dns.Msg, records map[string][]dns.RR) {
	network, question := w.RemoteAddr().Network(), q.Question[0]
	a.mu.Lock()
	a.questions = append(a.questions, network+" "+question.Name+" "+dns.TypeToString[question.Qtype])
	a.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	switch name := question.Name; name {
	case "failing.test.":
		m.Rcode = dns.RcodeServerFailure
	case "refused.test.":
		m.Rcode = dns.RcodeRefused
	case "silent.test.":
		return
	case "half.test.": // its AAAA is a server that does not know the type, as some load balancers
		if question.Qtype == dns.TypeAAAA {
			return
		}
		m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(203, 0, 113, 5)})
	case "mixed.test.": // the case of the question is kept, that of the answer is not
		m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "MiXeD.test.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(203, 0, 113, 6)})
	case "big.test.":
		if network == "udp" {
			m.Truncated = true
			break
		}
		for i := range 100 {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 9}, A: net.IPv4(203, 0, 113, byte(i))})
		}
	case "wrong.test.":
		m.Question[0].Name = "a.test."
		m.Answer = records["a.test."]
	default:
		found := records[name]
		if found == nil {
			m.Rcode = dns.RcodeNameError
			break
		}
		// As recursive servers do, but not for elsewhere.test, whose target is in another zone.
		for hop := 0; found != nil && hop < 3; hop++ {
			m.Answer = append(m.Answer, found...)
			cname, ok := found[0].(*dns.CNAME)
			if !ok || name == "elsewhere.test." {
				break
			}
			found = records[cname.Target]
		}
	}
	w.WriteMsg(m)
}

func (a *authority) asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.questions...)
}

// text returns an answer as one line.
func text(f Family) string {
	var parts []string
	for _, c := range f.Chain {
		parts = append(parts, fmt.Sprintf("%s>%s/%v", c.From, c.To, c.TTL))
	}
	for _, a := range f.Addresses {
		parts = append(parts, fmt.Sprintf("%v/%v", a.Addr, a.TTL))
	}
	return strings.Join(parts, " ")
}

func TestLookup(t *testing.T) {
	a := startAuthority(t)
	r := &Resolver{Servers: []netip.AddrPort{a.addr}, Timeout: 20 * time.Second}
	for _, tt := range []struct {
		host       string
		ipv4, ipv6 string
		err4, err6 error
		source     Source
	}{
		{host: "a.test", ipv4: "203.0.113.7/5m0s", ipv6: "2001:db8::7/10m0s", source: FromDNS},
		{host: "A.Test.", ipv4: "203.0.113.7/5m0s", ipv6: "2001:db8::7/10m0s", source: FromDNS},
		{host: "four.test", ipv4: "203.0.113.4/1m0s", err6: ErrNoData, source: FromDNS},
		{host: "six.test", err4: ErrNoData, ipv6: "2001:db8::6/1m0s", source: FromDNS},
		{host: "alias.test", ipv4: "alias.test>next.test/30s next.test>a.test/40s 203.0.113.7/5m0s", ipv6: "alias.test>next.test/30s next.test>a.test/40s 2001:db8::7/10m0s", source: FromDNS},
		{host: "elsewhere.test", ipv4: "elsewhere.test>other.test/50s other.test>a.test/1m10s 203.0.113.7/5m0s", ipv6: "elsewhere.test>other.test/50s other.test>a.test/1m10s 2001:db8::7/10m0s", source: FromDNS},
		{host: "mixed.test", ipv4: "203.0.113.6/0s", err6: ErrNoData, source: FromDNS},
		{host: "none.test", err4: ErrNXDOMAIN, err6: ErrNXDOMAIN, source: FromDNS},
		{host: "dangling.test", ipv4: "dangling.test>gone.test/1s", ipv6: "dangling.test>gone.test/1s", err4: ErrNXDOMAIN, err6: ErrNXDOMAIN, source: FromDNS},
		{host: "text.test", err4: ErrNoData, err6: ErrNoData, source: FromDNS},
		{host: "failing.test", err4: ErrServerFailure, err6: ErrServerFailure, source: FromDNS},
		{host: "refused.test", err4: ErrRefused, err6: ErrRefused, source: FromDNS},
		{host: "wrong.test", err4: ErrUnreachable, err6: ErrUnreachable, source: FromDNS},
		{host: "[1.2.3.4]", err4: ErrName, err6: ErrName, source: FromDNS},
		{host: "", err4: ErrName, err6: ErrName, source: FromDNS},
		{host: "a b", err4: ErrName, err6: ErrName, source: FromDNS},
		{host: strings.Repeat("x", 64) + ".test", err4: ErrName, err6: ErrName, source: FromDNS},
		{host: "203.0.113.1", ipv4: "203.0.113.1/0s", err6: ErrNoData, source: FromLiteral},
		{host: "::ffff:203.0.113.1", ipv4: "203.0.113.1/0s", err6: ErrNoData, source: FromLiteral},
		{host: "2001:db8::1", ipv6: "2001:db8::1/0s", err4: ErrNoData, source: FromLiteral},
		{host: "localhost", ipv4: "127.0.0.1/0s", ipv6: "::1/0s", source: FromHosts},
	} {
		t.Run(tt.host, func(t *testing.T) {
			got, err := r.Lookup(t.Context(), tt.host)
			if text(got.IPv4) != tt.ipv4 || text(got.IPv6) != tt.ipv6 {
				t.Errorf("got %q and %q, want %q and %q", text(got.IPv4), text(got.IPv6), tt.ipv4, tt.ipv6)
			}
			if !errors.Is(got.IPv4.Err, tt.err4) || !errors.Is(got.IPv6.Err, tt.err6) || (tt.err4 == nil) != (got.IPv4.Err == nil) {
				t.Errorf("got the errors %v and %v, want %v and %v", got.IPv4.Err, got.IPv6.Err, tt.err4, tt.err6)
			}
			if (err == nil) != (tt.err4 == nil || tt.err6 == nil) || got.Source != tt.source {
				t.Errorf("got %v from %s, want it from %s", err, got.Source, tt.source)
			}
		})
	}
}

func TestLoops(t *testing.T) {
	a := startAuthority(t)
	r := &Resolver{Servers: []netip.AddrPort{a.addr}, Timeout: 20 * time.Second}
	for _, host := range []string{"self.test", "round.test", "long.test"} {
		answer, err := r.Lookup(t.Context(), host)
		if !errors.Is(err, ErrLoop) {
			t.Errorf("%s: got %v, %v, want a loop", host, answer, err)
		}
		if n := len(answer.IPv4.Chain); n > 2*maxChain+2 {
			t.Errorf("%s: a chain of %d", host, n)
		}
	}
	if n := len(a.asked()); n > 3*2*(maxChain+2) {
		t.Errorf("%d questions were asked", n)
	}
}

// TestTruncation checks that a truncated answer leads to the same question over TCP.
func TestTruncation(t *testing.T) {
	a := startAuthority(t)
	r := &Resolver{Servers: []netip.AddrPort{a.addr}, Timeout: 20 * time.Second}
	addrs, err := r.LookupNetIP(t.Context(), "ip4", "big.test")
	if err != nil || len(addrs) != 100 {
		t.Errorf("got %d addresses, %v, want 100", len(addrs), err)
	}
	if asked := strings.Join(a.asked(), ", "); !strings.Contains(asked, "udp big.test. A") || !strings.Contains(asked, "tcp big.test. A") {
		t.Errorf("asked %s", asked)
	}
}

// TestTimeout checks that a server that never answers is waited for once.
func TestTimeout(t *testing.T) {
	a := startAuthority(t)
	r := &Resolver{Servers: []netip.AddrPort{a.addr}, Timeout: 50 * time.Millisecond, Attempts: 1}
	answer, err := r.Lookup(t.Context(), "silent.test")
	if !errors.Is(err, ErrTimeout) || !errors.Is(answer.IPv6.Err, ErrTimeout) {
		t.Errorf("got %v and %v, want time-outs", answer.IPv4.Err, answer.IPv6.Err)
	}
	if answer.IPv4.Server != a.addr {
		t.Errorf("the error is of %v, want the server's", answer.IPv4.Server)
	}
}

// TestOneFamilyIsSilent checks that addresses of one family are returned although nobody answers for the other.
func TestOneFamilyIsSilent(t *testing.T) {
	a := startAuthority(t)
	r := &Resolver{Servers: []netip.AddrPort{a.addr}, Timeout: 500 * time.Millisecond, Attempts: 1}
	answer, err := r.Lookup(t.Context(), "half.test")
	if err != nil || text(answer.IPv4) != "203.0.113.5/0s" || !errors.Is(answer.IPv6.Err, ErrTimeout) {
		t.Errorf("got %q, %v and %v", text(answer.IPv4), err, answer.IPv6.Err)
	}
}

// TestNextServer checks that the second server is asked if the first does not exist, but not if the first answers NXDOMAIN.
func TestNextServer(t *testing.T) {
	first, second := startAuthority(t), startAuthority(t)
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := netip.MustParseAddrPort(closed.LocalAddr().String())
	closed.Close()

	r := &Resolver{Servers: []netip.AddrPort{nobody, second.addr}, Timeout: 20 * time.Second}
	if addrs, err := r.LookupNetIP(t.Context(), "ip", "a.test"); err != nil || len(addrs) != 2 {
		t.Errorf("after a server that does not exist: got %v, %v", addrs, err)
	}
	r.Servers[0] = first.addr
	if _, err := r.Lookup(t.Context(), "failing.test"); !errors.Is(err, ErrServerFailure) || len(second.asked()) < 4 {
		t.Errorf("got %v after the second server was asked %v", err, second.asked())
	}
	before := len(second.asked())
	if _, err := r.Lookup(t.Context(), "none.test"); !errors.Is(err, ErrNXDOMAIN) || len(second.asked()) != before {
		t.Errorf("got %v, and the second server was asked %v", err, second.asked()[before:])
	}
}

func TestContext(t *testing.T) {
	a := startAuthority(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Resolver{Servers: []netip.AddrPort{a.addr}}).Lookup(ctx, "a.test"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if _, err := (&Resolver{}).Lookup(t.Context(), "a.test"); !errors.Is(err, ErrNoServer) {
		t.Errorf("without a server: got %v", err)
	}
}

func TestFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	resolv := write("resolv.conf", "search example.org\nnameserver 203.0.113.53\nnameserver 2001:db8::53\noptions timeout:7 attempts:3\n")
	hosts := write("hosts", "# names\n127.0.0.1\tlocalhost\n203.0.113.7 Turn.Example.Org turn # relay\n2001:db8::7 turn.example.org a..b turn..\nnot an address\n")
	r, err := fromFiles(resolv, hosts)
	if err != nil {
		t.Fatal(err)
	}
	want := &Resolver{
		Servers: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.53:53"), netip.MustParseAddrPort("[2001:db8::53]:53")},
		Hosts: map[string][]netip.Addr{
			"localhost":        {netip.MustParseAddr("127.0.0.1")},
			"turn":             {netip.MustParseAddr("203.0.113.7")},
			"turn.example.org": {netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")},
		},
		Timeout: 7 * time.Second, Attempts: 3,
	}
	if diff := cmp.Diff(want, r, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	addrs, err := r.LookupNetIP(t.Context(), "ip6", "TURN.example.org.")
	if err != nil || len(addrs) != 1 || addrs[0] != netip.MustParseAddr("2001:db8::7") {
		t.Errorf("got %v, %v from the hosts file", addrs, err)
	}
	if r, err := fromFiles(dir+"/none", dir+"/none"); err != nil || r.Servers[0].String() != "127.0.0.1:53" {
		t.Errorf("without files: got %v, %v", r, err)
	}
	if _, err := fromFiles(write("bad", "nameserver dns.example.org\n"), hosts); err == nil {
		t.Error("a name for a name server was accepted")
	}
}

func TestAt(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.53": "203.0.113.53:53", "203.0.113.53:5353": "203.0.113.53:5353",
		"2001:db8::53": "[2001:db8::53]:53", "[2001:db8::53]": "[2001:db8::53]:53", "[2001:db8::53]:5353": "[2001:db8::53]:5353",
	} {
		if r, err := At(in); err != nil || r.Servers[0].String() != want {
			t.Errorf("At(%q) = %v, %v, want %s", in, r, err, want)
		}
	}
	if _, err := At("dns.example.org"); err == nil {
		t.Error("a name was accepted")
	}
}

func TestFake(t *testing.T) {
	r := Fake(map[string][]netip.Addr{"a.test": {netip.MustParseAddr("203.0.113.7")}})
	if addrs, err := r.LookupNetIP(t.Context(), "ip", "a.test"); err != nil || len(addrs) != 1 {
		t.Errorf("got %v, %v", addrs, err)
	}
	if _, err := r.Lookup(t.Context(), "b.test"); !errors.Is(err, ErrNoServer) {
		t.Errorf("an unknown name: got %v", err)
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost # x\n::1 a b\n")
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := parseHosts(strings.NewReader(text))
		if err != nil {
			return
		}
		for name, addrs := range hosts {
			if name != canonical(name) || len(addrs) == 0 {
				t.Errorf("%q has %v", name, addrs)
			}
		}
	})
}
