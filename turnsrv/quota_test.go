package turnsrv

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// named returns a credential that an issuer has given to a user.
func named(user string) credential.Credential {
	return credential.Issuer{Secret: credential.NewSecret([]byte(testSecret)), TTL: 24 * time.Hour}.IssueFor(user, time.Now())
}

// TestSilentAllocationGivesWay wants a user at its quota to get another allocation in the place of one that relays nothing, on
// whichever socket that is, and in the place of no other.
func TestSilentAllocationGivesWay(t *testing.T) {
	change := func(c *Config) { c.NonceLifetime, c.MaxAllocationsPerUser = time.Hour, 3 }
	inBubble(t, change, func(b *bubble) {
		client := func(c *rawClient, user string) *rawClient {
			c.use(named(user))
			return c
		}
		peer := b.listen()
		bob := client(b.client(), "bob") // silent longer than all others, and somebody else
		bob.allocate()
		conn, err := b.stream.dial()
		if err != nil {
			b.Fatal(err)
		}
		stream := client(newRawClient(b.T, conn, true), "alice")
		silent, talking := client(b.client(), "alice"), client(b.client(), "alice")
		silent.allocate()
		relayed := talking.allocate()
		talking.want(talking.request(stun.MethodCreatePermission, peerAddr(peer.addr)), 0)
		time.Sleep(time.Second)
		stream.allocate()
		refused := func(when string) {
			t.Helper()
			if a := client(b.client(), "alice").request(stun.MethodAllocate, transportUDP); a.code != 486 {
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
		talk(idleAfter - 5*time.Second)
		refused("when all have been silent for less than a minute")
		talk(10 * time.Second)

		second := client(b.client(), "alice")
		second.allocate() // in the place of the one that has been silent longest
		third := client(b.client(), "alice")
		third.allocate() // in the place of the one over TCP, which another goroutine serves
		synctest.Wait()
		refused("when the silent ones have given way")
		silent.want(silent.request(stun.MethodRefresh), 437)
		stream.want(stream.request(stun.MethodRefresh), 437)
		for _, c := range []*rawClient{talking, second, third, bob} {
			c.want(c.request(stun.MethodRefresh), 0)
		}
		if got := b.server.Counters().AllocationsEnded[EndedSuperseded]; got != 2 {
			t.Errorf("%d allocations have given way, want 2", got)
		}
		talk(10 * time.Second)
	})
}

// TestSilentHalfOfACall wants a dual allocation to stay as a whole when one of its relayed addresses relays.
func TestSilentHalfOfACall(t *testing.T) {
	b := newBareFront(t)
	b.server.SetQuotas(Quotas{MaxAllocationsPerUser: 2})
	now := b.shared.start
	s := newSigner(b, now)
	if code := codeOf(t, b.take(s.message(stun.MethodAllocate, 1, transportUDP, attr32(stun.AttrAdditionalAddressFamily, 2<<24)), s.from, now)); code != 0 {
		t.Fatalf("a dual allocation is answered %d", code)
	}
	b.allocations[s.from].addresses[0].toClient.add(1)
	now = now.Add(idleAfter - time.Second)
	b.janitor(now)
	other := newSigner(b, now)
	other.from = clientAt("192.0.2.9:5001")
	other.nonce = b.shared.nonces.appendNonce(nil, other.from.tuple, now)
	other.use(s.cred)
	if code := codeOf(t, b.take(other.message(stun.MethodAllocate, 1, transportUDP), other.from, now.Add(2*time.Second))); code != 486 {
		t.Errorf("while one half relays, one more is answered %d, want 486", code)
	}
	if code := codeOf(t, b.take(other.message(stun.MethodAllocate, 2, transportUDP), other.from, now.Add(idleAfter))); code != 0 {
		t.Errorf("when both are silent, one more is answered %d, want 0", code)
	}
	if n := b.server.Allocations(); n != 1 {
		t.Errorf("%d allocations are left, want 1: the silent one ends as a whole", n)
	}
}

// TestQuotaOfAnonymousCredentials wants people who happen to have one credential to have a quota each, by address, and
// whoever has many addresses to have a bounded share.
func TestQuotaOfAnonymousCredentials(t *testing.T) {
	b := newBareFront(t)
	b.server.SetQuotas(Quotas{MaxAllocationsPerUser: 2})
	now := b.shared.start
	allocate := func(from netip.AddrPort) stun.ErrorCode {
		s := newSigner(b, now)
		s.from = client{tuple: FiveTuple{Client: from}}
		s.nonce = b.shared.nonces.appendNonce(nil, s.from.tuple, now)
		return codeOf(t, b.take(s.message(stun.MethodAllocate, 1, transportUDP), s.from, now))
	}
	for _, tt := range []struct {
		addr string
		want stun.ErrorCode
	}{
		{"192.0.2.1:1", 0}, {"192.0.2.1:2", 0}, {"192.0.2.1:3", 486}, {"192.0.2.2:1", 0},
		{"[2001:db8::1]:1", 0}, {"[2001:db8::2]:1", 0}, {"[2001:db8::3]:1", 486},
	} {
		if got := allocate(netip.MustParseAddrPort(tt.addr)); got != tt.want {
			t.Errorf("Allocate from %s is answered %d, want %d", tt.addr, got, tt.want)
		}
	}
	made := b.server.Allocations()
	for i := range 1000 { // one site has 65536 networks of 64 bits
		addr := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, byte(i >> 8), byte(i), 15: 1})
		if allocate(netip.AddrPortFrom(addr, 5000)) == 0 {
			made++
		}
	}
	if want := maxAnonymous * 2; made != want {
		t.Errorf("one credential has %d allocations from many addresses, want %d", made, want)
	}
}

// TestQuotaKeepsBooks takes and gives at random and compares with a count of what is there.
func TestQuotaKeepsBooks(t *testing.T) {
	q := newQuota(Quotas{MaxAllocationsPerUser: 5})
	random := rand.New(rand.NewPCG(1, 2))
	subjects := []credential.Subject{{Name: "alice"}, {Name: "alice", Realm: "example.org"}, {Name: "1758650868", Anonymous: true}}
	there := make(map[*relayedAddress]bool)
	silenced := 0
	for step := range 20000 {
		now := time.Duration(step) * time.Second
		if random.IntN(3) > 0 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(15))}), 1)
			a := &relayedAddress{allocation: &allocation{client: client{tuple: FiveTuple{Client: from}}, subject: subjects[random.IntN(len(subjects))]}}
			a.allocation.active.Store(int64(now))
			silent, _, ok := q.take(a, now)
			if ok {
				there[a] = true
			}
			if silent != nil {
				if silenced++; now-time.Duration(silent.allocation.active.Load()) < idleAfter {
					t.Fatal("an allocation gives way that was not silent for long")
				}
				q.give(silent)
				delete(there, silent)
			}
		} else {
			for a := range there {
				q.give(a)
				delete(there, a)
				break
			}
		}
		want := make(map[share]int)
		anonymous := 0
		for a := range there {
			want[shareOf(a.allocation)]++
			if a.allocation.subject.Anonymous {
				anonymous++
			}
		}
		if q.total != len(there) || len(q.byShare) != len(want) || q.anonymous[subjects[2]] != anonymous {
			t.Fatalf("total %d, %d shares, %d anonymous, want %d, %d and %d", q.total, len(q.byShare), q.anonymous[subjects[2]], len(there), len(want), anonymous)
		}
		for share, n := range want {
			if got := len(q.byShare[share].addresses); got != n || n > 5 {
				t.Fatalf("%v has %d, want %d", share, got, n)
			}
		}
	}
	if silenced == 0 {
		t.Error("nothing gave way")
	}
}
