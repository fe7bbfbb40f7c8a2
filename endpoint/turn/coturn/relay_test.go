package coturn

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/listen"
)

// TestImportRelay checks for coturn's relay addresses of both families, and those it binds to.
func TestImportRelay(t *testing.T) {
	for _, tt := range []struct{ name, text, relayIP, relayBind, remark string }{
		{"IPv4 behind a NAT, IPv6 as it is", "listening-ip=2001:db8::5\nlistening-ip=192.168.116.15\nexternal-ip=198.51.100.7/192.168.116.15\n",
			`["198.51.100.7", "2001:db8::5"]`, `"192.168.116.15"`, ""},
		{"without the private address", "listening-ip=192.168.116.15\nlistening-ip=2001:db8::5\nexternal-ip=198.51.100.7\n",
			`["198.51.100.7", "2001:db8::5"]`, `"192.168.116.15"`, ""},
		{"both behind a NAT", "external-ip=198.51.100.7/10.0.0.7\nexternal-ip=2001:db8::5/fd00::5\n",
			`["198.51.100.7", "2001:db8::5"]`, `["10.0.0.7", "fd00::5"]`, ""},
		{"IPv6 behind a NAT, IPv4 as it is", "relay-ip=198.51.100.7\nrelay-ip=fd00::5\nexternal-ip=2001:db8::5/fd00::5\n",
			`["2001:db8::5", "198.51.100.7"]`, `"fd00::5"`, ""},
		{"relay-ip excludes what is listened on", "listening-ip=192.168.116.15\nlistening-ip=2001:db8::5\nrelay-ip=192.168.116.15\nexternal-ip=198.51.100.7/192.168.116.15\n",
			`"198.51.100.7"`, `"192.168.116.15"`, ""},
		{"no NAT", "listening-ip=198.51.100.7\nlistening-ip=127.0.0.1\nexternal-ip=198.51.100.7/198.51.100.7\n", `"198.51.100.7"`, "", ""},
		{"every address of the machine", "external-ip=198.51.100.7/10.0.0.7\n", `"198.51.100.7"`, `"10.0.0.7"`, "IPv6 addresses of the machine too"},
		{"every address of the machine, IPv6", "external-ip=2001:db8::5/fd00::5\nlistening-ip=::\n", `"2001:db8::5"`, `"fd00::5"`, "IPv4 addresses of the machine too"},
		{"two of a family", "listening-ip=10.0.0.7\nlistening-ip=10.0.0.8\nexternal-ip=198.51.100.7/10.0.0.7\n", `"198.51.100.7"`, `"10.0.0.7"`,
			"line 2, listening-ip: mailturn relays from one address of each family"},
		{"IPv6 by default, and alone", "allocation-default-address-family=ipv6\nrelay-ip=2001:db8::5\n", `"2001:db8::5"`, "", "on an IPv6-only relay"},
		{"IPv6 by default, beside IPv4", "allocation-default-address-family=ipv6\nrelay-ip=2001:db8::5\nrelay-ip=198.51.100.7\n",
			`["2001:db8::5", "198.51.100.7"]`, "", "get an IPv4 address if there is one"},
		{"no external-ip", "listening-ip=198.51.100.7\nlistening-ip=2001:db8::5\n", "", "", ""}, // which mailturn detects
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, i := imported(t, "realm=example.org\nstatic-auth-secret=correct horse battery staple\n"+tt.text)
			for name, want := range map[string]string{"relay_ip": tt.relayIP, "relay_bind": tt.relayBind} {
				line := ""
				for l := range strings.Lines(got) {
					if key, value, found := strings.Cut(l, "="); found && strings.TrimSpace(key) == name {
						line = strings.TrimSpace(value)
					}
				}
				if line != want {
					t.Errorf("%s is %s, want %s\n%s", name, line, want, got)
				}
			}
			remarks := ""
			for _, r := range i.Remarks {
				remarks += strings.Replace(r.Place(), "line 4", "line 2", 1) + ": " + r.Reason + "\n" // after the two lines above
			}
			if !strings.Contains(remarks, tt.remark) || tt.remark == "" && remarks != "" {
				t.Errorf("remarks %q, want %q", remarks, tt.remark)
			}
			decode(t, got)
		})
	}
}

// TestExportRelay checks that if there is a relay-ip, there is one for every family with a relay: coturn has no other relays then.
func TestExportRelay(t *testing.T) {
	addrs := func(texts ...string) (list []netip.Addr) {
		for _, text := range texts {
			list = append(list, netip.MustParseAddr(text))
		}
		return list
	}
	both := []listen.Addr{{Scheme: "udp", Host: "2001:db8::5", Port: 3478}, {Scheme: "udp", Host: "192.168.116.15", Port: 3478}}
	for _, tt := range []struct {
		name        string
		listen      []listen.Addr
		relay, bind []netip.Addr
		want        string
	}{
		{"IPv4 behind a NAT, IPv6 as it is", both, addrs("198.51.100.7", "2001:db8::5"), addrs("192.168.116.15"),
			"external-ip=198.51.100.7/192.168.116.15 relay-ip=192.168.116.15 external-ip=2001:db8::5/2001:db8::5 relay-ip=2001:db8::5"},
		{"on every address", nil, addrs("198.51.100.7", "2001:db8::5"), addrs("192.168.116.15"),
			"external-ip=198.51.100.7/192.168.116.15 relay-ip=192.168.116.15 external-ip=2001:db8::5/2001:db8::5 relay-ip=2001:db8::5"},
		{"IPv6 behind a NAT", nil, addrs("198.51.100.7", "2001:db8::5"), addrs("fd00::5"),
			"external-ip=198.51.100.7/198.51.100.7 relay-ip=198.51.100.7 external-ip=2001:db8::5/fd00::5 relay-ip=fd00::5"},
		{"without relay_bind", both, addrs("198.51.100.7", "2001:db8::5"), nil,
			"external-ip=198.51.100.7/192.168.116.15 relay-ip=192.168.116.15 external-ip=2001:db8::5/2001:db8::5 relay-ip=2001:db8::5"},
		{"IPv4 alone", both, addrs("198.51.100.7"), nil, "external-ip=198.51.100.7/192.168.116.15 relay-ip=192.168.116.15"},
		{"no NAT", nil, addrs("198.51.100.7"), nil, "external-ip=198.51.100.7"},
		{"found by itself", both, nil, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Export(&b, turn.Config{Realm: "example.org", Listen: tt.listen, RelayIP: tt.relay, RelayBind: tt.bind}); err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(b.String()) {
				if strings.Contains(line, "-ip=") && !strings.Contains(line, "peer-ip") && !strings.Contains(line, "listening") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("got  %s\nwant %s", text, tt.want)
			}
		})
	}
}

// TestExportDefaultFamily checks that clients that request no family, such as browsers, get one that the relay has.
func TestExportDefaultFamily(t *testing.T) {
	for relay, want := range map[string]bool{"2001:db8::5": true, "198.51.100.7": false, "": false} {
		c := turn.Config{Realm: "example.org"}
		if relay != "" {
			c.RelayIP = []netip.Addr{netip.MustParseAddr(relay)}
		}
		var b bytes.Buffer
		if err := Export(&b, c); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(b.String(), "allocation-default-address-family=ipv6\n"); got != want {
			t.Errorf("relay_ip %q: IPv6 by default is %v, want %v", relay, got, want)
		}
	}
}
