package turnsrv

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// named returns a credential issued to a user.
func named(user string) credential.Credential {
	return credential.Issuer{Secret: credential.NewSecret([]byte(turntest.TestSecret)), TTL: 24 * time.Hour}.IssueFor(user, time.Now())
}

// TestSilentAllocationGivesWay checks that a further allocation of a user at its quota replaces an idle one, on any socket, and
// no other one.
func TestSilentAllocationGivesWay(t *testing.T) {
	change := func(c *Config) { c.NonceLifetime, c.MaxAllocationsPerUser = time.Hour, 3 }
	inBubble(t, change, func(b *bubble) {
		client := func(c *rawClient, user string) *rawClient {
			c.use(named(user))
			return c
		}
		peer := b.listen()
		bob := client(b.client(), "bob") // idle longer than all others, but of another user
		bob.allocate()
		conn, far := net.Pipe()
		b.stream.Conns <- turntest.AddressedConn{Conn: far, Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10001}} // of the same host
		stream := client(newRawClient(b.T, conn, true), "alice")
		silent, talking := client(b.client(), "alice"), client(b.client(), "alice")
		silent.allocate()
		relayed := talking.allocate()
		talking.want(talking.request(stun.MethodCreatePermission, turntest.PeerAddr(peer.Addr)), 0)
		time.Sleep(time.Second)
		stream.allocate()
		refused := func(when string) {
			t.Helper()
			if a := client(b.client(), "alice").request(stun.MethodAllocate, turntest.TransportUDP); a.code != 486 {
				t.Errorf("%s, one more is answered %d, want 486", when, a.code)
			}
		}
		talk := func(d time.Duration) {
			t.Helper()
			for start := time.Now(); time.Since(start) < d; time.Sleep(5 * time.Second) {
				if !b.reaches(talking, peer, relayed) {
					t.Fatal("the call was cut")
				}
			}
		}
		refused("at first")
		talk(session.IdleAfter - 5*time.Second)
		refused("when all have been silent for less than a minute")
		talk(10 * time.Second)

		second := client(b.client(), "alice")
		second.allocate() // replaces the one that has been idle longest
		third := client(b.client(), "alice")
		third.allocate() // replaces the one over TCP, which another goroutine serves
		synctest.Wait()
		refused("when the silent ones have given way")
		silent.want(silent.request(stun.MethodRefresh), 437)
		stream.want(stream.request(stun.MethodRefresh), 437)
		for _, c := range []*rawClient{talking, second, third, bob} {
			c.want(c.request(stun.MethodRefresh), 0)
		}
		if got := b.server.Counters().AllocationsEnded[event.EndedSuperseded]; got != 2 {
			t.Errorf("%d allocations have given way, want 2", got)
		}
		talk(10 * time.Second)
	})
}
