package cluster

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/framework/config"
)

func TestClientRegions(t *testing.T) {
	table, err := parseClientRegions(`# the offices
192.0.2.0/24	eu
192.0.2.128/25 us

198.51.100.7 asia
0.0.0.0/0 elsewhere
2001:db8::/32 eu
2001:db8:1::/48 us
`)
	if err != nil {
		t.Fatal(err)
	}
	for client, want := range map[string]string{
		"192.0.2.1": "eu", "192.0.2.200": "us", "::ffff:192.0.2.200": "us", "198.51.100.7": "asia", "198.51.100.8": "elsewhere",
		"2001:db8::1": "eu", "2001:db8:1::1": "us", "2001:db9::1": "", "fe80::1%eth0": "",
	} {
		if got := table.of(netip.MustParseAddr(client)); got != want {
			t.Errorf("%s is in %q, want %q", client, got, want)
		}
	}
	if got := table.of(netip.Addr{}); got != "" {
		t.Errorf("a client without an address is in %q", got)
	}
	if got := (clientRegions{}).of(netip.MustParseAddr("192.0.2.1")); got != "" {
		t.Errorf("without a table, a client is in %q", got)
	}
}

func TestBadClientRegions(t *testing.T) {
	var networks, regions strings.Builder
	for i := range maxNetworks + 1 {
		fmt.Fprintf(&networks, "%d.%d.%d.0/24 eu\n", i>>16, i>>8&255, i&255)
	}
	for i := range maxRegions + 1 {
		fmt.Fprintf(&regions, "10.%d.%d.0/24 region%d\n", i>>8, i&255, i)
	}
	for text, want := range map[string]string{
		"\n192.0.2.0/24\n":                        "2: the line has 1 words",
		"192.0.2.0/24 eu us\n":                    "1: the line has 3 words",
		"192.0.2.0/33 eu\n":                       `1: "192.0.2.0/33" is not a network`,
		"example.org eu\n":                        `1: "example.org" is not a network`,
		"fe80::1%eth0 eu\n":                       `1: "fe80::1%eth0" is not a network`,
		"192.0.2.1/24 eu\n":                       "1: 192.0.2.1/24 has bits after its prefix: did you mean 192.0.2.0/24?",
		"::ffff:192.0.2.0/120 eu\n":               "1: ::ffff:192.0.2.0/120 contains IPv4 addresses",
		"192.0.2.1 eu\n192.0.2.1/32 us\n":         "2: 192.0.2.1/32 has a region already",
		"10.0.0.0/8 " + strings.Repeat("r", 256):  "1: the region has 256 bytes",
		"10.0.0.0/8 " + strings.Repeat("r", 1000): "1: the line is longer",
		networks.String():                         "500001: there are more than 500000 networks",
		regions.String():                          "1001: there are more than 1000 regions",
	} {
		if _, err := parseClientRegions(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// TestClientRegionsFile checks that an error names the file and the line, and that a reload reads the file again.
func TestClientRegionsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "regions")
	decode := func(text string) (Settings, string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		block := config.Defaults[config.Cluster]()
		block.Redis.V = []string{"redis://localhost"}
		block.Region.V = "here"
		block.ClientRegions = config.Value[string]{V: path, Set: true}
		s, diags := Decode(&block)
		return s, fmt.Sprint(diags)
	}
	if _, got := decode("192.0.2.0/24 eu\nx"); !strings.Contains(got, path+":2: the line has 1 words") {
		t.Error(got)
	}
	first, _ := decode("192.0.2.0/24 eu\n")
	d := New(first, func() []Relay { return nil }, nil)
	client := netip.MustParseAddr("192.0.2.1")
	if got := d.Region(client); got != "eu" {
		t.Errorf("the client is in %q", got)
	}
	if got := d.Region(netip.MustParseAddr("203.0.113.1")); got != "here" {
		t.Errorf("a client of another network is in %q", got)
	}
	second, _ := decode("192.0.2.0/24 us\n")
	d.Apply(second)
	if got := d.Region(client); got != "us" {
		t.Errorf("after a reload, the client is in %q", got)
	}
	if names := NeedsRestart(first, second); len(names) != 0 {
		t.Errorf("%v require a restart", names)
	}
}
