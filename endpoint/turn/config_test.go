package turn

import (
	"testing"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/turnsrv"
)

// decodeBody decodes the body of an endpoint, to which it adds the required attributes.
func decodeBody(t *testing.T, body string) any {
	t.Helper()
	file, diags := config.Parse("maddy.conf", []byte("endpoint \"turn\" \"turn\" {\nsecret = \"correct horse battery staple\"\n"+body+"\n}\n"))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	c, diags := Decode(file.Endpoints[0], Defaults{Hostname: "example.org"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return c
}

func TestDocumentedDefaults(t *testing.T) {
	moduletest.Defaults[Schema](t, decodeBody)
}

// TestDefaultsAreTurnsrvs checks that the defaults of an endpoint are those of package turnsrv.
func TestDefaultsAreTurnsrvs(t *testing.T) {
	c := decodeBody(t, "").(Config)
	if c.UnauthenticatedRate != turnsrv.DefaultUnauthenticatedRate || c.MaxGuesses != turnsrv.DefaultMaxGuesses ||
		c.MaxConnections != turnsrv.DefaultMaxStreams || c.MaxPermissions != turnsrv.DefaultMaxPermissions || c.MaxChannels != turnsrv.DefaultMaxChannels ||
		c.MaxPPS != turnsrv.DefaultMaxPPS || c.UserPPS != turnsrv.DefaultMaxPPSPerUser ||
		c.Peers.SilentBytes != turnsrv.DefaultSilentPeerBytes || c.MaxLifetime.V != turnsrv.DefaultMaxLifetime ||
		c.NonceLifetime.V != turnsrv.DefaultNonceLifetime || c.ExpiredGrace != turnsrv.DefaultExpiredGrace {
		t.Errorf("got %+v", c.Settings)
	}
}
