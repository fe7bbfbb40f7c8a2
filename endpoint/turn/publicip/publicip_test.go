package publicip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestSource(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"interface", ""}, {"metadata", ""}, {"dns", ""}, {"dns:turn.example.org", ""},
		{"stun:stun.example.org", "stun:stun.example.org:3478"}, {"stun:stun.example.org:19302", ""},
		{"stun:192.0.2.1", "stun:192.0.2.1:3478"}, {"stun:[2001:db8::1]:3479", ""}, {"stun:2001:db8::1", "stun:[2001:db8::1]:3478"},
		{"", "error"}, {"auto", "error"}, {"interface:eth0", "error"}, {"metadata:aws", "error"}, {"dns:", "error"},
		{"dns:a:b", "error"}, {"stun", "error"}, {"stun:", "error"}, {"stun::3478", "error"}, {"stun:host:0", "error"},
		{"stun:host:65536", "error"}, {"stun://host", "error"}, {"stun:a b", "error"}, {"http://example.org", "error"},
	} {
		var s Source
		err := s.UnmarshalText([]byte(tt.text))
		want := tt.want
		if want == "" {
			want = tt.text
		}
		if (err != nil) != (want == "error") || err == nil && s.String() != want {
			t.Errorf("%q: got %v, %v, want %s", tt.text, s, err, want)
		}
	}
}

// TestFind checks the order of the sources, and that an address with a problem counts only if there is no other.
func TestFind(t *testing.T) {
	addr := netip.MustParseAddr
	answers := map[string][]netip.Addr{
		"interface": {addr("10.0.0.7"), addr("2001:db8::7")},
		"one":       {addr("192.0.2.1")},
		"two":       {addr("192.0.2.2"), addr("fd00::2")},
	}
	asked := make(map[string]int)
	ask := func(name string) ([]netip.Addr, error) {
		asked[name]++
		if addrs, ok := answers[name]; ok {
			return append([]netip.Addr(nil), addrs...), nil
		}
		return nil, errors.New("no answer")
	}
	f := &Finder{
		Sources:    []Source{{Kind: Interface}, {Kind: DNS}, {Kind: DNS, Host: "two"}},
		Hostname:   "one",
		Interfaces: func() ([]netip.Addr, error) { return ask("interface") },
		Lookup:     func(_ context.Context, name string) ([]netip.Addr, error) { return ask(name) },
		Problem: func(addr netip.Addr) string {
			if addr.IsPrivate() {
				return "a private address"
			}
			return ""
		},
	}
	want := func(what string, local bool, errs string, want ...string) {
		t.Helper()
		found, err := f.Find(t.Context(), local)
		var got []string
		for _, found := range found {
			got = append(got, fmt.Sprintf("%v %v %s", found.Addr, found.Source, found.Problem))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
		if fmt.Sprint(err) != errs {
			t.Errorf("%s: error %v, want %s", what, err, errs)
		}
	}
	want("all answer", false, "<nil>", "192.0.2.1 dns ", "2001:db8::7 interface ")
	answers["interface"] = []netip.Addr{addr("203.0.113.7")}
	want("a better address of an earlier source; no IPv6 but a private one", true, "<nil>", "203.0.113.7 interface ", "fd00::2 dns:two a private address")
	if asked["one"] != 1 || asked["two"] != 1 || asked["interface"] != 2 {
		t.Errorf("asked %v, with only this machine the second time", asked)
	}
	answers["interface"] = []netip.Addr{addr("10.0.0.7")}
	delete(answers, "one")
	want("a source that gives no answer any more", false, "dns: no answer", "192.0.2.1 dns ", "fd00::2 dns:two a private address")
	want("and is not asked", true, "dns: no answer", "192.0.2.1 dns ", "fd00::2 dns:two a private address")
	answers["one"] = []netip.Addr{netip.IPv4Unspecified(), addr("224.0.0.1")}
	want("addresses that nobody has", false, "dns: it has no address", "192.0.2.1 dns ", "fd00::2 dns:two a private address")
	answers["one"] = []netip.Addr{addr("::ffff:192.0.2.9")}
	want("another address", false, "<nil>", "192.0.2.9 dns ", "fd00::2 dns:two a private address")

	f.Sources, f.latest = f.Sources[:1], nil
	delete(answers, "interface")
	want("nothing", false, "interface: no answer")
}

// TestSTUN asks a server that loses the first request, and first answers with what is no answer.
func TestSTUN(t *testing.T) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := conn.LocalAddr().(*net.UDPAddr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for i := 0; ; i++ {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if i == 0 {
				continue
			}
			m, err := stun.Parse(buf[:n])
			if err != nil {
				t.Error(err)
				return
			}
			answer := func(class stun.Class, id stun.TransactionID, typ stun.AttrType) {
				var b stun.Builder
				b.Start(stun.MethodBinding, class, id)
				b.XORAddress(typ, netip.MustParseAddrPort("192.0.2.7:5000"))
				conn.WriteTo(b.Bytes(), from)
			}
			conn.WriteTo([]byte("no STUN"), from)
			other := m.TransactionID
			other[11]++
			answer(stun.ClassSuccess, other, stun.AttrXORMappedAddress)
			answer(stun.ClassError, m.TransactionID, stun.AttrXORMappedAddress)
			answer(stun.ClassSuccess, m.TransactionID, stun.AttrXORPeerAddress)
			answer(stun.ClassSuccess, m.TransactionID, stun.AttrXORMappedAddress)
		}
	}()
	addrs, err := askSTUN(t.Context(), "127.0.0.1", uint16(server.Port))
	if err != nil || fmt.Sprint(addrs) != "[192.0.2.7]" {
		t.Errorf("got %v, %v", addrs, err)
	}
	conn.Close()
	<-done

	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	server = silent.LocalAddr().(*net.UDPAddr)
	if addrs, err := askSTUN(ctx, "127.0.0.1", uint16(server.Port)); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("from a server that does not answer: %v, %v", addrs, err)
	}
}

// TestMetadata asks the metadata services of several clouds.
func TestMetadata(t *testing.T) {
	const aws, google = "/latest/meta-data/", "/computeMetadata/v1/instance/network-interfaces/0/"
	for _, tt := range []struct {
		cloud   string
		answers map[string]string // by method and path, and the header that is required
		want    string
	}{
		{"EC2", map[string]string{
			"PUT /latest/api/token X-aws-ec2-metadata-token-ttl-seconds: 60": "secret",
			"GET " + aws + "public-ipv4 X-aws-ec2-metadata-token: secret":    "192.0.2.1",
			"GET " + aws + "ipv6 X-aws-ec2-metadata-token: secret":           "2001:db8::1\n",
		}, "[192.0.2.1 2001:db8::1]"},
		{"EC2 without tokens", map[string]string{"GET " + aws + "public-ipv4": "192.0.2.1"}, "[192.0.2.1]"},
		{"a token that no header can have", map[string]string{
			"PUT /latest/api/token": "a\nb", "GET " + aws + "public-ipv4": "192.0.2.1",
		}, "[192.0.2.1]"},
		{"Google", map[string]string{
			"GET " + google + "access-configs/0/external-ip Metadata-Flavor: Google": "192.0.2.2",
			"GET " + google + "ipv6s Metadata-Flavor: Google":                        "2001:db8::2/96\n2001:db8::3/96",
		}, "[192.0.2.2 2001:db8::2 2001:db8::3]"},
		{"Azure", map[string]string{
			"GET /metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text Metadata: true": "192.0.2.3",
		}, "[192.0.2.3]"},
		{"Hetzner", map[string]string{"GET /hetzner/v1/metadata/public-ipv4": "192.0.2.4"}, "[192.0.2.4]"},
		{"DigitalOcean", map[string]string{
			"GET /metadata/v1/interfaces/public/0/ipv4/address": "192.0.2.5",
			"GET /metadata/v1/interfaces/public/0/ipv6/address": "2001:db8::5",
		}, "[192.0.2.5 2001:db8::5]"},
		{"a web server", map[string]string{"GET " + aws + "public-ipv4": "<html>" + strings.Repeat("x", 1<<20)}, "[]"},
		{"nothing", nil, "[]"},
	} {
		t.Run(tt.cloud, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for question, answer := range tt.answers {
					q := strings.SplitN(question, " ", 3)
					name, value := "", ""
					if len(q) > 2 {
						name, value, _ = strings.Cut(q[2], ": ")
					}
					if r.Method == q[0] && r.URL.RequestURI() == q[1] && (name == "" || r.Header.Get(name) == value) {
						fmt.Fprint(w, answer)
						return
					}
				}
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
			}))
			defer server.Close()
			got, err := askMetadata(t.Context(), server.URL)
			if err != nil || fmt.Sprint(got) != tt.want {
				t.Errorf("got %v, %v, want %s", got, err, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := askMetadata(ctx, "http://192.0.2.1"); err == nil {
		t.Errorf("without a service: got %v", got)
	}
}
