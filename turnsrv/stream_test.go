package turnsrv

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/link"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestT01FramingDoesNotWrap(t *testing.T) {
	server := startServer(t, testConfig(t))
	// Nine bytes that make pion's framing loop forever: ChannelData of 65532 bytes, as the first frame and after a STUN message.
	wrap := []byte{0x40, 0x00, 0xFF, 0xFC, 1, 2, 3, 4, 5}
	c := dial(t, "tcp", server.tcp)
	c.write(wrap)
	c.closed()
	c = dial(t, "tcp", server.tcp)
	c.unsigned(stun.MethodBinding)
	c.write(wrap)
	c.closed()
	if got := server.Counters().Dropped[event.DropMalformed]; got != 2 && !onPlainPion() {
		t.Errorf("%d violations were counted, want 2", got)
	}
	dial(t, "tcp", server.tcp).unsigned(stun.MethodBinding)
}

func TestT06ChannelDataOverStream(t *testing.T) {
	server := startServer(t, testConfig(t))
	c := dial(t, "tcp", server.tcp)
	c.allocate()
	far := udp.AddrPortOf(echo(t))
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(far)), 0)
	for _, size := range []int{0, 1, 2, 3, 4, 5, 7, 8, 100, 1400, 1600, 1601, 2048, 4096, 9000, 65504, 65507} {
		want := turntest.ChannelData(0x4000, strings.Repeat("x", size))
		c.write(want)
		if got := c.read(); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back as %d with %x", size, len(got), got[:4])
		}
	}
	// Data that exceeds an IPv4 datagram is dropped and does not delay other data: T07.
	for _, size := range []int{65508, 65535} {
		c.write(turntest.ChannelData(0x4000, strings.Repeat("x", size)))
		c.silent()
	}
	message := turntest.ChannelData(0x4000, "hello")
	for at := range message {
		c.write(message[:at])
		c.write(message[at:])
		if got := c.read(); !bytes.Equal(got, message) {
			t.Errorf("cut at %d it came back as %x", at, got)
		}
	}
	c.write(append(bytes.Clone(message), turntest.ChannelData(0x4000, "you")...))
	for _, want := range [][]byte{message, turntest.ChannelData(0x4000, "you")} {
		if got := c.read(); !bytes.Equal(got, want) {
			t.Errorf("two in one segment: got %x, want %x", got, want)
		}
	}
	// Requests and data in one segment that ends in the middle of a message.
	request := func() []byte { return c.message(stun.MethodBinding, stun.ClassRequest) }
	segment := slices.Concat(request(), message, request(), message)
	c.write(segment[:len(segment)-1])
	answers, echoes := 0, 0
	for i := range 4 {
		if i == 3 {
			c.write(segment[len(segment)-1:])
		}
		if got := c.read(); bytes.Equal(got, message) {
			echoes++
		} else if m := c.parse(got); m.Method == stun.MethodBinding && m.Class == stun.ClassSuccess {
			answers++
		}
	}
	if answers != 2 || echoes != 2 {
		t.Errorf("several in one segment: %d answers and %d messages came back, want 2 of each", answers, echoes)
	}
}

// TestLargestChannelData sends more than a datagram can hold. Between two allocations of the server there is no datagram.
func TestLargestChannelData(t *testing.T) {
	server := startServer(t, testConfig(t))
	alice, bob := call(dial(t, "tcp", server.tcp), dial(t, "tcp", server.tcp))
	for _, size := range []int{65507, 65508, 65535} {
		text := strings.Repeat("x", size)
		alice.write(turntest.ChannelData(0x4000, text))
		if got, want := bob.read(), turntest.ChannelData(0x4001, text); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came as %d", size, len(got)-stun.ChannelDataHeaderLen)
		}
	}
}

// TestT08ByteByByte sends a long frame one byte at a time. It must arrive and use no more stack than another frame.
func TestT08ByteByByte(t *testing.T) {
	listener := turntest.NewPipeListener() // a pipe does not merge writes
	config := testConfig(t)
	if onPlainPion() {
		plain := plainPion(t, config, listenLoopback, nil,
			[]net.Listener{turntest.AddressedListener{PipeListener: listener, Next: new(int)}})
		t.Cleanup(func() { _ = plain.Close() })
	} else {
		server, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- server.ServeStream(listener) }()
		t.Cleanup(func() {
			_ = server.Close()
			<-served
		})
	}
	conn, err := listener.Dial()
	if err != nil {
		t.Fatal(err)
	}
	c := newRawClient(t, conn, true)
	c.allocate()
	far := udp.AddrPortOf(echo(t))
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(far)), 0)
	short, long := turntest.ChannelData(0x4000, "hello"), turntest.ChannelData(0x4001, strings.Repeat("x", 60000))
	for i := range short {
		c.write(short[i : i+1])
	}
	if got := c.read(); !bytes.Equal(got, short) {
		t.Errorf("byte by byte it came back as %x", got)
	}
	before := stackInUse()
	for i := range len(long) - 1 {
		c.write(long[i : i+1])
	}
	if grown := int64(stackInUse()) - int64(before); grown > 1<<20 {
		t.Errorf("%d bytes of a frame took %d bytes of stack", len(long)-1, grown)
	}
	c.write(long[len(long)-1:])
	c.silent()
}

func stackInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}

func TestT09OtherProtocolsAreClosed(t *testing.T) {
	server := startServer(t, testConfig(t))
	for _, hello := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x80\x00\x00\x00", "\xff\xff\xff\xff", "\x00\x01\x00\x03\x21\x12\xa4\x42",
		"\x00\x01\xff\xfc\x21\x12\xa4\x42", // a STUN message of 64 KiB before there is an allocation
	} {
		c := dial(t, "tcp", server.tcp)
		c.write([]byte(hello))
		c.closed()
	}
	// Plain TURN on the TLS port.
	c := dial(t, "tcp", server.tls)
	c.write(c.message(stun.MethodBinding, stun.ClassRequest))
	if _, err := io.ReadAll(c.conn); errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestConnectionEndsItsAllocation(t *testing.T) {
	config := testConfig(t)
	ended := make(chan event.Event, 1)
	config.OnEvent = func(e event.Event) {
		if e.Kind == event.AllocationEnded {
			ended <- e
		}
	}
	server := startServer(t, config)
	for _, end := range []func(c *net.TCPConn) error{
		func(c *net.TCPConn) error { return c.Close() },
		func(c *net.TCPConn) error { return c.CloseWrite() },
		func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },                                  // RST
		func(c *net.TCPConn) error { _, _ = c.Write([]byte{0x40, 0}); _ = c.SetLinger(0); return c.Close() }, // in mid-frame
	} {
		c := dial(t, "tcp", server.tcp)
		c.allocate()
		if err := end(c.conn.(*net.TCPConn)); err != nil {
			t.Fatal(err)
		}
		if e := <-ended; e.End != event.EndedConnection || e.Tuple.Transport != event.TCP {
			t.Errorf("event %+v", e)
		}
	}
}

func TestT09UnallocatedConnectionsEnd(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		connect := func() *rawClient {
			conn, err := b.stream.Dial()
			if err != nil {
				b.Fatal(err)
			}
			return newRawClient(b, conn, true)
		}
		start := time.Now()
		idle, busy, half := connect(), connect(), connect()
		half.write([]byte{0x00, 0x03, 0x00})
		for time.Since(start) < link.UnallocatedTimeout-time.Second {
			busy.unsigned(stun.MethodBinding)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second + time.Millisecond)
		for i, c := range []*rawClient{idle, busy, half} {
			if frame, err := c.tryRead(time.Second); frame != nil || err != nil {
				t.Errorf("connection %d: %x, %v, want it closed", i, frame, err)
			}
		}
		// An allocation keeps its connection open. Ending the allocation does not close the connection immediately.
		c := connect()
		c.allocate()
		time.Sleep(5 * time.Minute)
		c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
		time.Sleep(link.UnallocatedTimeout - time.Second)
		if a := c.request(stun.MethodAllocate, turntest.TransportUDP); a.code != 0 {
			t.Errorf("Allocate on the same connection answered %d", a.code)
		}
		time.Sleep(DefaultLifetime + session.JanitorPeriod + link.UnallocatedTimeout)
		synctest.Wait()
		if n := b.server.Counters().Streams; n != 0 {
			t.Errorf("%d connections outlive their allocations", n)
		}
	})
}

func TestT09SlowReaderBlocksNobody(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour }, func(b *bubble) {
		conn, err := b.stream.Dial()
		if err != nil {
			b.Fatal(err)
		}
		slow := newRawClient(b, conn, true)
		relayed := slow.allocate()
		peer := b.listen()
		slow.want(slow.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(peer.Addr)), 0)
		// The client does not read. Media is queued up to the limit and then dropped.
		payload := make([]byte, 1400)
		for range 2 * link.MaxMediaQueue / len(payload) {
			if _, err := peer.WriteToUDPAddrPort(payload, relayed); err != nil {
				b.Fatal(err)
			}
			synctest.Wait()
		}
		if got := b.server.Counters().Dropped[event.DropQueue]; got < uint64(link.MaxMediaQueue/len(payload)/2) {
			t.Errorf("%d packets were dropped", got)
		}
		// Other clients are served in the meantime, also over the same listener.
		other, err := b.stream.Dial()
		if err != nil {
			b.Fatal(err)
		}
		newRawClient(b, other, true).unsigned(stun.MethodBinding)
		b.client().allocate()
		// The connection is not closed before its allocation ends.
		time.Sleep(DefaultLifetime - time.Second)
		synctest.Wait()
		if n := b.server.Allocations(); n != 2 {
			t.Errorf("%d allocations, want those of both clients", n)
		}
		time.Sleep(session.JanitorPeriod + link.UnallocatedTimeout + 2*time.Second)
		synctest.Wait()
		if n := b.server.Counters().Streams; n != 0 {
			t.Errorf("%d connections outlive their allocations", n)
		}
	})
}

func TestT04AcceptErrorsEndNothing(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		conn, err := b.stream.Dial()
		if err != nil {
			b.Fatal(err)
		}
		c := newRawClient(b, conn, true)
		c.allocate()
		for range 10 {
			b.stream.Errs <- fmt.Errorf("accept: %w", syscall.EMFILE)
			b.stream.Errs <- fmt.Errorf("accept: %w", syscall.ECONNABORTED)
		}
		c.want(c.request(stun.MethodRefresh), 0)
		conn, err = b.stream.Dial()
		if err != nil {
			b.Fatal(err)
		}
		newRawClient(b, conn, true).allocate()
	})
}

// TestMaxStreams fills a listener. Connections with an allocation are kept, those without are closed.
func TestMaxStreams(t *testing.T) {
	config := testConfig(t)
	config.MaxStreams = 2
	server := startServer(t, config)
	kept, idle := dial(t, "tcp", server.tcp), dial(t, "tcp", server.tcp)
	kept.allocate()
	idle.unsigned(stun.MethodBinding)
	second := dial(t, "tcp", server.tcp)
	second.allocate()
	idle.closed()
	dial(t, "tcp", server.tcp).closed()
	kept.want(kept.request(stun.MethodRefresh), 0)
	second.want(second.request(stun.MethodRefresh), 0)
	if n := server.Counters().StreamsRefused; n != 2 {
		t.Errorf("%d connections were counted as refused, want 2", n)
	}
}

// TestMaxUnallocated opens more connections without an allocation than allowed: the excess is closed long before MaxStreams.
func TestMaxUnallocated(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		connect := func() *rawClient {
			conn, err := b.stream.Dial()
			if err != nil {
				b.Fatal(err)
			}
			return newRawClient(b, conn, true)
		}
		kept, ended := connect(), connect()
		kept.allocate()
		ended.allocate()
		ended.want(ended.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
		for range link.MaxUnallocated + 99 {
			connect()
		}
		synctest.Wait()
		if got := b.server.Counters(); got.Streams != 1+link.MaxUnallocated || got.StreamsRefused != 100 {
			t.Errorf("%d connections, %d refused, want %d and 100", got.Streams, got.StreamsRefused, 1+link.MaxUnallocated)
		}
		kept.want(kept.request(stun.MethodRefresh), 0)
	})
}

func TestHandshakeThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := turntest.NewPipeListener()
		config := testConfig(t)
		config.Workers = -1 // they would wait for the system, not for the bubble
		server, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- server.ServeStream(tls.NewListener(listener, &tls.Config{GetCertificate: never})) }()
		conn, err := listener.Dial()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the server spoke first")
		}
		if took := time.Since(start); took != link.HandshakeTimeout {
			t.Errorf("the connection was closed after %v", took)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != ErrServerClosed {
			t.Errorf("ServeStream = %v", err)
		}
	})
}

func never(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("no certificate") }

func TestT10CloseEndsConnections(t *testing.T) {
	server := startServer(t, testConfig(t))
	c := dial(t, "tcp", server.tcp)
	c.allocate()
	idle := dial(t, "tcp", server.tcp)
	idle.unsigned(stun.MethodBinding)
	half := dial(t, "tcp", server.tls)
	half.write([]byte{0x16})
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	c.closed()
	idle.closed()
	half.closed()
}

// A client that reconnects from the same address must not find remains of its old connection.
func TestConnectionsOfOneAddressAreApart(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		first, err := b.stream.Dial()
		if err != nil {
			b.Fatal(err)
		}
		second, err := b.stream.Dial() // the pipes have no addresses: the same 5-tuple
		if err != nil {
			b.Fatal(err)
		}
		one, two := newRawClient(b, first, true), newRawClient(b, second, true)
		one.allocate()
		two.allocate()
		_ = first.Close()
		synctest.Wait()
		two.want(two.request(stun.MethodRefresh), 0)
		if n := b.server.Allocations(); n != 1 {
			t.Errorf("%d allocations", n)
		}
	})
}
