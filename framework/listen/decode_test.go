package listen

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

func TestDecode(t *testing.T) {
	one := Schemes{Protocol: "IMAP", Names: []string{"tls", "tcp"}, Meaning: "tls or tcp"}
	shared := Schemes{Protocol: "TURN", Names: []string{"udp", "tcp", "tls"}, Meaning: "udp, tcp or tls", Share: true}
	for _, tt := range []struct {
		name           string
		schemes        Schemes
		addrs, want    string
		wantDiagnostic string
	}{
		{"two addresses", one, "tls://192.0.2.1:993 tls://192.0.2.2:993", "tls://192.0.2.1:993 tls://192.0.2.2:993", ""},
		{"both families", one, "tls://0.0.0.0:993 tls://[::]:993", "tls://0.0.0.0:993", ""},
		{"both families, IPv6 first", one, "tls://[::]:993 tls://0.0.0.0:993", "tls://[::]:993", ""},
		{"both families on two ports", one, "tls://0.0.0.0:993 tls://[::]:994", "tls://0.0.0.0:993 tls://[::]:994", ""},
		{"both families on any port", one, "tls://0.0.0.0:0 tls://[::]:0", "tls://0.0.0.0:0 tls://[::]:0", ""},
		{"both families, one with TLS", one, "tls://0.0.0.0:993 tcp://[::]:993", "tls://0.0.0.0:993", "Duplicate listening address"},
		{"one address twice", one, "tls://0.0.0.0:993 tls://0.0.0.0:993", "tls://0.0.0.0:993", "Duplicate listening address"},
		{"every address and one of them", one, "tls://0.0.0.0:993 tls://192.0.2.1:993", "tls://0.0.0.0:993 tls://192.0.2.1:993", ""},
		{"a shared socket", shared, "tcp://192.0.2.1:443 tls://192.0.2.1:443", "tcp://192.0.2.1:443 tls://192.0.2.1:443", ""},
		{"a shared socket twice", shared, "tls://192.0.2.1:443 tls://192.0.2.1:443", "tls://192.0.2.1:443", "Duplicate listening address"},
		{"both families of a shared socket", shared, "udp://0.0.0.0:3478 udp://[::]:3478", "udp://0.0.0.0:3478 udp://[::]:3478", ""},
		{"unknown scheme", one, "udp://0.0.0.0:3478", "", "Scheme is not one of IMAP's"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := config.Value[[]Addr]{Set: true}
			for text := range strings.FieldsSeq(tt.addrs) {
				var addr Addr
				if err := addr.UnmarshalText([]byte(text)); err != nil {
					t.Fatal(err)
				}
				v.V, v.Elems = append(v.V, addr), append(v.Elems, hcl.Range{Filename: text})
			}
			addrs, ranges, diags := tt.schemes.Decode(v, hcl.Range{})
			var got, places []string
			for i, addr := range addrs {
				got, places = append(got, addr.String()), append(places, ranges[i].Filename)
			}
			if got := strings.Join(got, " "); got != tt.want || got != strings.Join(places, " ") {
				t.Errorf("got %s at %s, want %s", got, places, tt.want)
			}
			if tt.wantDiagnostic == "" && len(diags) > 0 || tt.wantDiagnostic != "" && (len(diags) != 1 || diags[0].Summary != tt.wantDiagnostic) {
				t.Errorf("got the diagnostics %v, want %q", diags, tt.wantDiagnostic)
			}
		})
	}
}
