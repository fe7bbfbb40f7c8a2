package turn

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/framework/listen"
)

// pionHonors are the attributes that mean the same with both engines.
var pionHonors = []string{
	"engine", "expired_grace", "listen", "max_connections", "max_credential_lifetime", "peers", "peers.allow", "peers.deny", "proxy_protocol", "realm",
	"relay_bind", "relay_ip", "relay_ports", "secret", "source_quota", "tls", "tls.acme", "tls.cert", "tls.key", "total_quota", "user_quota", "users", "users_file",
}

// TestPionHonorsOrRefuses checks that engine = "pion" either honors or refuses each attribute: if it ignored one, a relay might
// lack a limit that its operator has set.
func TestPionHonorsOrRefuses(t *testing.T) {
	instead := pionInstead()
	names := namesOf(reflect.TypeFor[Schema](), "")
	for _, name := range names {
		_, refused := instead[name]
		if strings.HasPrefix(name, "tls.acme.") { // the process that starts the engine obtains the files
			continue
		}
		outer, _, _ := strings.Cut(name, ".")
		_, refusedAround := instead[outer]
		switch honored := slices.Contains(pionHonors, name); {
		case !honored && !refused && !refusedAround:
			t.Errorf("%s: add it to pionInstead, or see that turnsrv/pionturn honors it and add it here", name)
		case honored && refused:
			t.Errorf("%s is both honored and refused", name)
		}
	}
	for name := range instead {
		if !slices.Contains(names, name) {
			t.Errorf("there is no attribute %s", name)
		}
	}
	for _, name := range pionHonors {
		if !slices.Contains(names, name) {
			t.Errorf("there is no attribute %s", name)
		}
	}
}

// namesOf returns the names of the attributes and blocks of a schema, with those of the blocks around them.
func namesOf(schema reflect.Type, within string) (names []string) {
	for f := range schema.Fields() {
		typ := f.Type
		if typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch name, role, _ := strings.Cut(f.Tag.Get("hcl"), ","); {
		case name == "" && f.Anonymous:
			names = append(names, namesOf(typ, within)...)
		case role == "block":
			names = append(append(names, within+name), namesOf(typ, within+name+".")...)
		case name != "" && role == "":
			names = append(names, within+name)
		}
	}
	return names
}

// TestPionDefaults checks that pion can serve an endpoint that sets only its engine.
func TestPionDefaults(t *testing.T) {
	c := decodeBody(t, `engine = "pion"`).(Config)
	c.ListenAlso(443)
	if ports := c.Ports("dtls"); len(ports) > 0 {
		t.Errorf("DTLS is listened for on %v", ports)
	}
	c.TLS = encryptedOn(t).TLS
	c.Listen = nil
	c.ListenAlso(443)
	for _, scheme := range []string{"udp", "tcp", "tls"} {
		if !slices.Equal(c.Ports(scheme), []uint16{443}) {
			t.Errorf("%s is listened for on %v", scheme, c.Ports(scheme))
		}
	}
	if len(c.Ports("dtls")) > 0 {
		t.Error("DTLS is listened for")
	}
}

// TestPionRelaysFromOneAddress checks that the IPv4 address is used of the two that the endpoint finds.
func TestPionRelaysFromOneAddress(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "::1"}, listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	c.Engine = Pion
	if got, want := c.configured(), []netip.Addr{netip.MustParseAddr("127.0.0.1")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	c.Listen = c.Listen[:1]
	if got, want := c.configured(), []netip.Addr{netip.IPv6Loopback()}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
