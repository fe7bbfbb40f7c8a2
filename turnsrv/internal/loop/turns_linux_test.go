package loop

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

// arrivals records the sockets from which datagrams were received.
type arrivals struct {
	sockets []int
	done    chan struct{} // closed when there are as many as want
	want    int
}

type arrivalsAt struct {
	*arrivals
	socket int
}

func (a arrivalsAt) Receive([]byte, netip.AddrPort, netip.Addr, time.Time) {
	a.arrivals.sockets = append(a.arrivals.sockets, a.socket)
	if len(a.arrivals.sockets) == a.want {
		close(a.done)
	}
}

// TestSocketsTakeTurns fills many sockets before the loop receives from them. Sockets of single clients must delay neither the
// shared one nor each other.
func TestSocketsTakeTurns(t *testing.T) {
	const (
		sockets = 40
		each    = 100
		shared  = 200
	)
	l := testLoop(t, Options{})
	all := &arrivals{want: sockets*each + shared, done: make(chan struct{})}
	far, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	var open []*udp.Socket
	l.Do(func() {
		for i := range sockets + 1 {
			s, err := listen()
			if err != nil {
				t.Error(err)
				return
			}
			open = append(open, s)
			n := each
			if i == sockets {
				n = shared
			}
			for range n {
				if _, err := far.WriteToUDPAddrPort([]byte("x"), s.LocalAddr()); err != nil {
					t.Error(err)
				}
			}
			if err := l.Receive(s, arrivalsAt{all, i}, i == sockets); err != nil {
				t.Error(err)
			}
		}
	})
	select {
	case <-all.done:
	case <-time.After(10 * time.Second):
		t.Fatal("not all datagrams came")
	}
	l.Do(func() {
		for _, s := range open {
			l.Unwatch(s.FD())
			_ = s.Close()
		}
	})
	counts := make([]int, sockets+1)
	for _, socket := range all.sockets {
		counts[socket]++
		if own := counts[socket]; socket < sockets && counts[sockets] < shared && own > udp.Batch {
			t.Fatalf("socket %d has delivered %d datagrams, and the shared one %d of %d", socket, own, counts[sockets], shared)
		}
		for other := range sockets {
			if lead := counts[socket] - counts[other]; socket < sockets && lead > udp.Batch {
				t.Fatalf("socket %d is %d datagrams ahead of socket %d", socket, lead, other)
			}
		}
	}
}

func TestNextBatch(t *testing.T) {
	for _, test := range []struct{ batch, datagrams, want int }{
		{udp.Batch, udp.Batch, udp.Batch},
		{udp.Batch, 64, udp.Batch},
		{udp.Batch, 64 * udp.Batch, 1}, // all coalesced
		{1, 64, 1},
		{1, 1, udp.Batch},
		{4, 128, 2},
	} {
		if got := nextBatch(test.batch, test.datagrams); got != test.want {
			t.Errorf("after %d messages with %d datagrams the next batch is %d, want %d", test.batch, test.datagrams, got, test.want)
		}
	}
}

// shares counts the datagrams of each client that are within its share.
type shares struct {
	loop   *Loop
	shares map[netip.AddrPort]*Share
	within map[netip.AddrPort]int
}

func (s *shares) Receive(_ []byte, from netip.AddrPort, _ netip.Addr, _ time.Time) {
	if s.shares[from] == nil {
		s.shares[from] = new(Share)
	}
	if s.loop.MayTake(s.shares[from]) {
		s.within[from]++
	}
}

// TestClientsShareACrowdedSocket floods a shared socket from one client, faster than rounds empty it. After crowdedAfter, that
// client must be limited to its share of each round, and another client must lose nothing.
func TestClientsShareACrowdedSocket(t *testing.T) {
	l := testLoop(t, Options{})
	s, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (*net.UDPConn, netip.AddrPort) {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.LocalAddr()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	flood, flooder := dial()
	call, caller := dial()
	send := func(conn *net.UDPConn, n int) {
		for range n {
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Error(err)
			}
		}
	}
	now := time.Now()
	r := &shares{loop: l, shares: make(map[netip.AddrPort]*Share)}
	l.Do(func() {
		if err := l.Receive(s, r, true); err != nil {
			t.Error(err)
			return
		}
		const full = sharedBudget - 5 // and five of the call
		for _, round := range []struct {
			after         time.Duration // since the first one
			flood, within int
		}{
			{0, full, full},
			{crowdedAfter, full, full},
			{crowdedAfter + 1, full, clientShare},
			{2 * crowdedAfter, full, clientShare},
			{3 * crowdedAfter, 5, 5}, // empties the socket
			{4 * crowdedAfter, 2 * clientShare, 2 * clientShare},
		} {
			r.within = make(map[netip.AddrPort]int)
			send(call, 5)
			send(flood, round.flood)
			l.receiveLater(l.watched[s.FD()])
			l.takeTurns(now.Add(round.after))
			if got := r.within[flooder]; got != round.within {
				t.Errorf("after %v: %d packets of the flood are within its share, want %d", round.after, got, round.within)
			}
			if got := r.within[caller]; got != 5 {
				t.Errorf("after %v: %d packets of the call are, want 5", round.after, got)
			}
		}
		l.Unwatch(s.FD())
		_ = s.Close()
	})
}
