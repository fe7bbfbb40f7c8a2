package session

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestSourceQuota(t *testing.T) {
	b := newBareSession(t)
	b.shared.SetQuotas(limited(limit.Quotas{MaxAllocationsPerSource: 2}))
	now := time.Unix(1758650868, 0)
	allocate := func(addr string) (code stun.ErrorCode) {
		s := newSigner(b, now)
		s.from = clientAt(addr)
		s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, now)
		answer := b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now)
		m, err := stun.Parse(answer)
		if err != nil {
			t.Fatal(err)
		}
		for typ, value := range m.Attributes() {
			if typ == stun.AttrErrorCode {
				code = stun.ErrorCode(int(value[2])*100 + int(value[3]))
			}
		}
		return code
	}
	for _, tt := range []struct {
		addr string
		want stun.ErrorCode
	}{
		{"192.0.2.1:1", 0}, {"192.0.2.1:2", 0}, {"192.0.2.1:3", 486}, {"192.0.2.2:1", 0},
		{"[2001:db8::1]:1", 0}, {"[2001:db8::2]:1", 0}, {"[2001:db8::3]:1", 486}, {"[2001:db8:0:1::1]:1", 0},
	} {
		if got := allocate(tt.addr); got != tt.want {
			t.Errorf("Allocate from %s is answered %d, want %d", tt.addr, got, tt.want)
		}
	}
	b.End(now)
	if got := allocate("192.0.2.1:3"); got != 0 {
		t.Errorf("Allocate is answered %d when the others have ended", got)
	}
}

// TestSilentHalfOfACall checks that both relayed addresses of a dual allocation are kept while one of them relays.
func TestSilentHalfOfACall(t *testing.T) {
	b := newBareSession(t)
	b.shared.SetQuotas(limited(limit.Quotas{MaxAllocationsPerUser: 2}))
	now := b.shared.start
	s := newSigner(b, now)
	if code := codeOf(t, b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP,
		turntest.Attr32(stun.AttrAdditionalAddressFamily, 2<<24)), s.from, now)); code != 0 {
		t.Fatalf("a dual allocation is answered %d", code)
	}
	b.stir(b.allocations.get(s.from))
	b.allocations.get(s.from).addresses[0].toClient.Add(1)
	now = now.Add(IdleAfter - time.Second)
	b.janitor(now)
	other := newSigner(b, now)
	other.from = clientAt("192.0.2.9:5001")
	other.nonce = b.shared.nonces.appendNonce(nil, other.from.Tuple, now)
	other.use(s.cred)
	if code := codeOf(t, b.take(other.message(stun.MethodAllocate, 1, turntest.TransportUDP), other.from,
		now.Add(2*time.Second))); code != 486 {
		t.Errorf("while one half relays, one more is answered %d, want 486", code)
	}
	allocate := other.message(stun.MethodAllocate, 2, turntest.TransportUDP)
	if code := codeOf(t, b.take(allocate, other.from, now.Add(IdleAfter))); code != 0 {
		t.Errorf("when both are silent, one more is answered %d, want 0", code)
	}
	if n := b.shared.Allocations(); n != 1 {
		t.Errorf("%d allocations are left, want 1: the silent one ends as a whole", n)
	}
}

// TestQuotaOfAnonymousCredentials checks that users who happen to share a credential have a quota each, by address, and that a
// user with many addresses has a limited share.
func TestQuotaOfAnonymousCredentials(t *testing.T) {
	b := newBareSession(t)
	b.shared.SetQuotas(limited(limit.Quotas{MaxAllocationsPerUser: 2}))
	now := b.shared.start
	allocate := func(from netip.AddrPort) stun.ErrorCode {
		s := newSigner(b, now)
		s.from = Client{Tuple: event.FiveTuple{Client: from}}
		s.nonce = b.shared.nonces.appendNonce(nil, s.from.Tuple, now)
		return codeOf(t, b.take(s.message(stun.MethodAllocate, 1, turntest.TransportUDP), s.from, now))
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
	made := b.shared.Allocations()
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

// TestQuotaAgainstCounting takes and gives at random and compares the result with a separate count.
func TestQuotaAgainstCounting(t *testing.T) {
	q := newQuota(limit.Quotas{MaxAllocationsPerUser: 5}, nil)
	random := rand.New(rand.NewPCG(1, 2))
	subjects := []credential.Subject{{Name: "alice"}, {Name: "alice", Realm: "example.org"}, {Name: "1758650868", Anonymous: true}}
	there := make(map[*relayedAddress]bool)
	silenced := 0
	session := &Session{shared: &Shared{start: time.Unix(0, 0)}}
	for step := range 20000 {
		now := session.shared.start.Add(time.Duration(step) * time.Second)
		if random.IntN(3) > 0 {
			a := &relayedAddress{allocation: &allocation{session: session, subject: subjects[random.IntN(len(subjects))]}}
			host := byte(1) // nobody roams
			if a.allocation.subject.Anonymous {
				host = byte(random.IntN(15))
			}
			a.allocation.client.Tuple.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, host}), 1)
			a.allocation.active.Store(int64(now.Sub(session.shared.start)))
			silent, _, ok := q.take(a, now)
			if ok {
				there[a] = true
			}
			if silent != nil {
				if silenced++; now.Sub(session.shared.start)-time.Duration(silent.allocation.active.Load()) < IdleAfter {
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
		if q.total != len(there) || q.byShare.len() != len(want) || q.anonymous[subjects[2]] != anonymous {
			t.Fatalf("total %d, %d shares, %d anonymous, want %d, %d and %d", q.total, q.byShare.len(), q.anonymous[subjects[2]],
				len(there), len(want), anonymous)
		}
		for share, n := range want {
			if got := len(q.byShare.get(share).addresses); got != n || n > 5 {
				t.Fatalf("%v has %d, want %d", share, got, n)
			}
		}
	}
	if silenced == 0 {
		t.Error("nothing gave way")
	}
}
