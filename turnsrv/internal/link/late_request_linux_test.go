package link

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// orderOf is a handler that records the order of messages.
type orderOf struct {
	messages []string
	from     []netip.AddrPort
	waiting  int // messages until done is closed
	done     chan struct{}
}

func (o *orderOf) Handle(b []byte, from session.Client, _ time.Time) {
	o.messages, o.from = append(o.messages, string(b)), append(o.from, from.Tuple.Client)
	if o.waiting--; o.waiting == 0 {
		close(o.done)
	}
}

func (*orderOf) Gone(session.Client, time.Time) {}
func (*orderOf) Tick(time.Time)                 {}
func (*orderOf) End(time.Time)                  {}

// flooded serves a UDP socket that fill fills before the first message is handled. It waits until the handler has received want
// messages.
func flooded(t *testing.T, want int, fill func(t *testing.T, server netip.AddrPort)) (*orderOf, *count.Counters) {
	t.Helper()
	on, err := loop.New(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	server := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	counters := new(count.Counters)
	l, err := NewDatagram(conn, on, counters)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, server)
	o := &orderOf{waiting: want, done: make(chan struct{})}
	served := make(chan error)
	go func() { served <- l.Serve(o) }()
	select {
	case <-o.done:
	case <-time.After(10 * time.Second):
		t.Error("not all messages came")
	}
	on.Do(func() {}) // after the round
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	on.Close()
	return o, counters
}

// dialFrom returns a socket of a client at addr.
func dialFrom(t *testing.T, addr string, server netip.AddrPort) net.Conn {
	t.Helper()
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr)}, net.UDPAddrFromAddrPort(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

const (
	aRequest = "\x00\x04\x00\x00" // Refresh
	someData = "\x40\x00\x00\x00" // ChannelData
)

// TestDataPrecedesRequests sends data after many requests, all of which arrive in the same round. The data must be handled first.
func TestDataPrecedesRequests(t *testing.T) {
	const requests, data = 150, 50
	o, counters := flooded(t, requests+data, func(t *testing.T, server netip.AddrPort) {
		flood, call := dialFrom(t, "127.0.1.1", server), dialFrom(t, "127.0.2.1", server)
		for range requests {
			write(t, flood, []byte(aRequest))
		}
		for range data {
			write(t, call, []byte(someData))
		}
	})
	seen := map[string]int{}
	for _, message := range o.messages {
		if seen[message]++; message == aRequest && seen[aRequest] > 8 && seen[someData] < data {
			t.Fatalf("%d requests were handled before %d of %d data packets", seen[aRequest], data-seen[someData], data)
		}
	}
	if n := counters.Dropped[event.DropOverload].Load(); n != 0 {
		t.Errorf("%d requests were dropped", n)
	}
}

// TestRequestsAreInOrder sends as few requests as a genuine client does, with data in between that may depend on them.
func TestRequestsAreInOrder(t *testing.T) {
	want := []string{aRequest, someData, aRequest, aRequest, someData}
	o, _ := flooded(t, len(want), func(t *testing.T, server netip.AddrPort) {
		call := dialFrom(t, "127.0.2.1", server)
		for _, message := range want {
			write(t, call, []byte(message))
		}
	})
	for i, message := range o.messages {
		if message != want[i] {
			t.Errorf("message %d is %q, want %q", i, message, want[i])
		}
	}
}

// TestRequestsOverTCPAreNotLost sends requests over more connections at the same time than the number of requests that can wait.
// Over TCP, clients do not retransmit.
func TestRequestsOverTCPAreNotLost(t *testing.T) {
	const connections = 700
	on, err := loop.New(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counters := new(count.Counters)
	l, h := NewStreams(connections, on, counters), new(loopHandler)
	got := make(chan event.FiveTuple, connections)
	h.handle = func(_ []byte, from session.Client) { got <- from.Tuple }
	var serving sync.WaitGroup
	serving.Go(func() { _ = l.Serve(listener, h, func(error) {}) })
	var all []net.Conn
	for range connections {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		all = append(all, conn)
	}
	on.Do(func() { // the loop sees all of them at once
		for _, conn := range all {
			write(t, conn, binding())
		}
	})
	from := make(map[event.FiveTuple]bool)
	for range connections {
		select {
		case tuple := <-got:
			from[tuple] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d requests were handled", len(from), connections)
		}
	}
	if len(from) != connections {
		t.Errorf("requests of %d clients were handled, want %d", len(from), connections)
	}
	if n := counters.Dropped[event.DropOverload].Load(); n != 0 {
		t.Errorf("%d requests were dropped", n)
	}
	l.Close()
	serving.Wait()
	on.Close()
}
