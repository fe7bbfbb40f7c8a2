package turn

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// started returns a running endpoint on a free port of loopback.
func started(t *testing.T, c Config) *Endpoint {
	t.Helper()
	e, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestReloadRotatesTheSecret(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	e := started(t, c)
	rotated := c
	rotated.Secrets = append([]credential.Secret{credential.NewSecret([]byte("battery staple correct horse"))}, c.Secrets...)
	pending, err := e.Reload(rotated)
	if err != nil || len(pending) != 0 {
		t.Fatalf("got %v, %v, want nothing left for a new start", pending, err)
	}
	for _, secret := range rotated.Secrets {
		issued := credential.Issuer{Secret: secret, TTL: time.Hour}.Issue(time.Now())
		grant, ok := e.secrets.Lookup(issued.Username, c.Realm)
		want := credential.LongTermKey(issued.Username, c.Realm, issued.Password)
		if !ok || !slices.ContainsFunc(grant.Keys, func(key []byte) bool { return slices.Equal(key, want) }) {
			t.Error("a secret of the list is not accepted after the reload")
		}
	}
}

func TestReloadReplacesPeers(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	e := started(t, c)
	private := netip.MustParseAddr("10.1.2.3")
	if _, ok := e.allocator.MayPermit(private); ok {
		t.Fatal("a private peer is permitted by default")
	}
	c.PeersAllow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	if _, err := e.Reload(c); err != nil {
		t.Fatal(err)
	}
	if rule, ok := e.allocator.MayPermit(private); !ok {
		t.Errorf("an allowed peer is refused after the reload: %s", rule)
	}
}

func TestReloadNamesWhatNeedsANewStart(t *testing.T) {
	c := loopback(listen.Addr{Scheme: "udp", Host: "127.0.0.1"})
	e := started(t, c)
	c.Realm, c.MinPort = "example.com", c.MinPort+1
	for range 2 { // it stays true until there is a new start
		pending, err := e.Reload(c)
		if want := "[realm relay_ports]"; err != nil || fmt.Sprint(pending) != want {
			t.Errorf("got %v, %v, want %s", pending, err, want)
		}
	}
}
