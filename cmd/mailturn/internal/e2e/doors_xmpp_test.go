package e2e

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/door"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// startXMPP starts a server with what is exported for it.
type startXMPP func(ctx context.Context, root *chroot.Root, exported string) (*chroot.Server, error)

// TestXMPPServers configures XMPP servers with the settings exported for them, asks them for a relay as their users do, and relays
// with their answers.
func TestXMPPServers(t *testing.T) {
	prosody := func(forGuests bool) startXMPP {
		return func(ctx context.Context, root *chroot.Root, exported string) (*chroot.Server, error) {
			return door.StartProsody(ctx, root, exported, forGuests)
		}
	}
	for _, tt := range []struct {
		name, root, neighbour string
		password              string // empty for a guest
		start                 startXMPP
	}{
		{"Prosody of Debian 12", "bookworm-doors", "prosody", door.Password, prosody(false)},
		{"Prosody of Debian 13", "trixie-prosody", "prosody", door.Password, prosody(false)},
		// How Jitsi Meet runs it: its doc/debian/jitsi-meet-prosody/prosody.cfg.lua-jvb.example has guests, and these settings, where
		// jitsi-anonymous is a module of its own. Its clients ask as here: modules/xmpp/strophe.jingle.js of lib-jitsi-meet.
		{"Prosody of Debian 12, set up as by Jitsi Meet", "bookworm-doors", "prosody", "", prosody(true)},
		{"ejabberd of Debian 12", "bookworm-doors", "ejabberd", door.Password, door.StartEjabberd},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root, p := openRoot(t, tt.root), freePorts(t)
			config := configure(t, p, allowLoopback, "turn_ttl = \"2h\"")
			relay := start(t, t.TempDir(), "--config", config)
			_, exported := export(t, tt.neighbour, config)
			ask := func(lines string) []door.Service {
				t.Helper()
				s, err := tt.start(t.Context(), root, lines)
				if err != nil {
					t.Fatal(err)
				}
				stopAfter(t, s)
				services, err := door.Services(t.Context(), s, tt.password)
				if err != nil {
					t.Fatal(err)
				}
				return services
			}

			for over, service := range relaying(t, ask(exported)) {
				if left := time.Until(expiry(t, service)).Round(time.Minute); left != 2*time.Hour {
					t.Errorf("%s: %s is good for %v, want two hours", over, service.Username, left)
				}
				allocates(t, over, service, true)
			}
			relay.waitFor(t, relay.stderr, `msg="allocation made"`)

			// With another secret, and with ours after the credential has expired.
			const plain = "turn over udp"
			allocates(t, plain, relaying(t, ask(strings.ReplaceAll(exported, secret, "another secret, which is not ours")))[plain], false)
			brief := strings.NewReplacer("ttl = 7200", "ttl = 1", "lifetime: 7200", "lifetime: 1").Replace(exported)
			expired := relaying(t, ask(brief))[plain]
			<-time.After(time.Until(expiry(t, expired)))
			allocates(t, plain, expired, false)
			interop.Record(t, interop.Cell{
				Kind: interop.Door, Name: tt.name, Version: packageVersion(t, root, tt.neighbour),
				How: "XEP-0215 with what export " + tt.neighbour + " prints: relays over UDP, TCP and TLS", Control: "another secret; expired credential",
			})
		})
	}
}

// relaying returns the services that relay, by type and transport, and checks that there are UDP, TCP and TLS, and one for STUN.
func relaying(t *testing.T, services []door.Service) map[string]door.Service {
	t.Helper()
	found := make(map[string]door.Service)
	for _, s := range services {
		found[s.Type+" over "+s.Transport] = s
	}
	if _, ok := found["stun over udp"]; !ok || len(services) != 4 || len(found) != 4 {
		t.Fatalf("got %+v, want STUN and three ways to relay", services)
	}
	delete(found, "stun over udp")
	return found
}

// expiry returns when a service's credential says that it ends.
func expiry(t *testing.T, s door.Service) time.Time {
	t.Helper()
	text, _, _ := strings.Cut(s.Username, ":")
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(seconds, 0)
}

// allocates relays with the data of a service, and checks that this succeeds or fails as expected.
func allocates(t *testing.T, over string, s door.Service, good bool) {
	t.Helper()
	options, ok := map[string][]string{"turn over udp": nil, "turn over tcp": {"-t"}, "turns over tcp": {"-t", "-S"}}[over]
	if !ok {
		t.Fatalf("no client for %s", over)
	}
	c := credential{host: s.Host, username: s.Username, password: s.Password}
	if good {
		uclient(t, c, s.Port, append(options, "-y", "-m", "2", "-n", "5")...).wantAllBack(t)
	} else {
		uclient(t, c, s.Port, append(options, "-y", "-m", "2", "-n", "1")...).wantNone(t, "Cannot complete Allocation")
	}
}
