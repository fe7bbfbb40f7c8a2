package e2e

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// badLink is a UDP link that loses, delays and reorders: it stands before the relay, at an address of its own. The kernel's
// netem would do for more protocols, but not every kernel has it.
type badLink struct {
	conn  net.PacketConn
	relay string
	t     *testing.T

	mu      sync.Mutex
	random  *rand.Rand          // guarded by mu
	clients map[string]net.Conn // guarded by mu: towards the relay, by the client's address
	done    sync.WaitGroup

	carried, lost atomic.Int64
}

const (
	linkLoss   = 0.05
	linkDelay  = 100 * time.Millisecond // in each direction
	linkJitter = 10 * time.Millisecond  // at most, more or less; packets within it overtake each other
)

// newBadLink makes a link from address to relay, both host and port in the namespace.
func newBadLink(t *testing.T, ns namespace, address, relay string) *badLink {
	t.Helper()
	l := &badLink{relay: relay, t: t, random: rand.New(rand.NewPCG(1, 2)), clients: make(map[string]net.Conn)}
	var err error
	ns.do(t, func() { l.conn, err = net.ListenPacket("udp", address) })
	if err != nil {
		t.Fatal(err)
	}
	l.done.Go(func() { ns.do(t, l.toRelay) })
	t.Cleanup(func() {
		l.conn.Close()
		l.mu.Lock()
		for _, c := range l.clients {
			c.Close()
		}
		l.mu.Unlock()
		l.done.Wait()
	})
	return l
}

// toRelay carries what clients send. It runs in the namespace, to which its sockets belong.
func (l *badLink) toRelay() {
	buf := make([]byte, 65536)
	for {
		n, client, err := l.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		server, err := l.client(client)
		if err != nil {
			l.t.Errorf("the link towards the relay: %v", err)
			return
		}
		l.carry(buf[:n], func(b []byte) { server.Write(b) })
	}
}

// client returns the socket of a client towards the relay, and carries what comes back.
func (l *badLink) client(client net.Addr) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.clients[client.String()]; c != nil {
		return c, nil
	}
	server, err := net.Dial("udp", l.relay)
	if err != nil {
		return nil, err
	}
	l.clients[client.String()] = server
	l.done.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			l.carry(buf[:n], func(b []byte) { l.conn.WriteTo(b, client) })
		}
	})
	return server, nil
}

// carry loses a packet, or sends a copy of it later.
func (l *badLink) carry(packet []byte, send func([]byte)) {
	l.mu.Lock()
	lose, jitter := l.random.Float64() < linkLoss, l.random.Int64N(int64(2*linkJitter))
	l.mu.Unlock()
	if lose {
		l.lost.Add(1)
		return
	}
	l.carried.Add(1)
	packet = append([]byte(nil), packet...)
	time.AfterFunc(linkDelay-linkJitter+time.Duration(jitter), func() { send(packet) })
}
