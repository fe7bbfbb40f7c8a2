package turn

import (
	"log/slog"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

func TestReloadRotatesTheSecret(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	e := moduletest.Start(t, New, c)
	rotated := c
	rotated.Secrets = append([]credential.Secret{credential.NewSecret([]byte("battery staple correct horse"))}, c.Secrets...)
	moduletest.Reload(t, e, rotated)
	for _, secret := range rotated.Secrets {
		issued := credential.Issuer{Secret: secret, TTL: time.Hour}.Issue(time.Now())
		grant, ok := e.secrets.Lookup(issued.Username, c.Realm)
		want := credential.LongTermKey(issued.Username, c.Realm, issued.Password)
		if !ok || !slices.ContainsFunc(grant.Keys, func(key credential.Key) bool { return slices.Equal(key.Value, want) }) {
			t.Error("a secret of the list is not accepted after the reload")
		}
	}
}

// TestReloadBoundsLifetimes checks that a bound set by a reload applies to the next request.
func TestReloadBoundsLifetimes(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	e := moduletest.Start(t, New, c)
	c.MaxCredentialLifetime.V = time.Hour
	moduletest.Reload(t, e, c)
	issued := credential.Issuer{Secret: c.Secrets[0], TTL: 2 * time.Hour}.Issue(time.Now())
	if grant, ok := e.secrets.Lookup(issued.Username, c.Realm); !ok || !grant.NotBefore.Equal(issued.Expires.Add(-time.Hour)) {
		t.Errorf("a credential that is good for 2h is granted not before %v, %v", grant.NotBefore, ok)
	}
}

func TestReloadReplacesPeers(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	e := moduletest.Start(t, New, c)
	private := netip.MustParseAddr("10.1.2.3")
	if _, ok := e.allocator.MayPermit(private); ok {
		t.Fatal("a private peer is permitted by default")
	}
	c.Peers.Allow.V = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	moduletest.Reload(t, e, c)
	if rule, ok := e.allocator.MayPermit(private); !ok {
		t.Errorf("an allowed peer is refused after the reload: %s", rule)
	}
}

func TestNeedsRestart(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	changed := c
	changed.Realm, changed.RelayPorts.V.Min = "example.com", c.RelayPorts.V.Min+1
	changed.Secrets, changed.TotalQuota, changed.Peers.Allow.V = nil, 7, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	changed.ProxyProtocol = changed.Peers.Allow.V
	changed.KernelPath++
	changed.UserRealms = []UserRealm{{Realm: "example.net", Names: []string{"example.net"}}}
	names := config.NeedsRestart(Schema{}, c, changed)
	if got := strings.Join(names, ", "); got != "proxy_protocol, realm, user_realm, relay_ports, kernel_path" {
		t.Errorf("got %q, want proxy_protocol, realm, user_realm, relay_ports and kernel_path", got)
	}
}

// TestDefaultQuotas checks that by default no credential can use the whole relay.
func TestDefaultQuotas(t *testing.T) {
	file, diags := config.Parse("maddy.conf", []byte("endpoint \"turn\" \"turn\" {\n  secret = \"correct horse battery staple\"\n}\n"))
	c, more := Decode(file.Endpoints[0], Defaults{Hostname: "example.org"})
	if diags = append(diags, more...); diags.HasErrors() {
		t.Fatal(diags)
	}
	if want := (limit.Quotas{
		MaxAllocations: 10000, MaxAllocationsPerUser: 40, MaxPPS: 20000, MaxPPSPerUser: 40000, MaxPermissions: 128, MaxChannels: 128,
	}); c.quotas() != want {
		t.Errorf("got %+v, want %+v", c.quotas(), want)
	}
}

// TestEveryAttributeReachesTheServer checks that every decoded attribute has an effect.
func TestEveryAttributeReachesTheServer(t *testing.T) {
	body := `
endpoint "turn" "turn" {
  realm                = "example.org"
  secret               = "correct horse battery staple"
  default_family       = "client"
  user_quota           = 1
  source_quota         = 2
  total_quota          = 3
  max_bps              = 4000
  total_bps            = 5000
  max_pps              = 21
  user_pps             = 22
  user_bytes_per_day   = 23
  user_calls           = 24
  workers              = 15
  gather               = "16us"
  udp_segment          = false
  udp_gro              = false
  kernel_path          = "on"
  unauthenticated_rate = 6
  max_guesses          = 7
  max_connections      = 12
  max_permissions      = 13
  max_channels         = 14
  strict_channels      = true
  max_lifetime         = "2h"
  nonce_lifetime       = "8m"
  expired_grace        = "9m"
  max_credential_lifetime = "11m"
  software             = "mailturn"
  peers {
    silent_bytes = 10
  }
  user_realm "example.net" {
    names = ["turn.example.net", "Example.NET"]
    users = { alice = "the password of alice" }
  }
}
`
	file, diags := config.Parse("maddy.conf", []byte(body))
	c, more := Decode(file.Endpoints[0], Defaults{})
	if diags = append(diags, more...); diags.HasErrors() {
		t.Fatal(diags)
	}
	e, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	got := e.serverConfig(nil, nil)
	want := turnsrv.Config{
		Realm: "example.org", Realms: map[string]string{"turn.example.net": "example.net", "example.net": "example.net"}, Authenticator: got.Authenticator, DefaultFamily: relay.ClientFamily,
		Quotas:              limit.Quotas{MaxAllocations: 3, MaxAllocationsPerUser: 1, MaxAllocationsPerSource: 2, MaxBytesPerUserPerDay: 23, MaxCallsPerUser: 24, MaxBPS: 4000, MaxTotalBPS: 5000, MaxPPS: 21, MaxPPSPerUser: 22, MaxPermissions: 13, MaxChannels: 14},
		UnauthenticatedRate: 6, MaxGuesses: 7, MaxStreams: 12, StrictChannels: true, SilentPeerBytes: 10,
		Lifetime: 10 * time.Minute, MaxLifetime: 2 * time.Hour, NonceLifetime: 8 * time.Minute, ExpiredGrace: 9 * time.Minute,
		Workers: c.WorkerCount(), Gather: 16 * time.Microsecond, NoSegment: true, NoCoalesce: true, KernelPath: turnsrv.KernelPathOn,
		Software: "mailturn", Logger: got.Logger,
	}
	if runtime.GOOS == "linux" && got.Workers != 15 {
		t.Errorf("%d workers, want 15", got.Workers)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := e.secrets.verifier.Load().MaxLifetime; got != 11*time.Minute {
		t.Errorf("the maximum lifetime of credentials is %v, want 11m", got)
	}
}
