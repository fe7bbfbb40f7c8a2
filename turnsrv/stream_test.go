package turnsrv

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

func TestT01FramingDoesNotWrap(t *testing.T) {
	server := startServer(t, testConfig(t))
	// Nine bytes that make pion's framing spin: ChannelData of 65532 bytes, as the first frame and behind a STUN message.
	wrap := []byte{0x40, 0x00, 0xFF, 0xFC, 1, 2, 3, 4, 5}
	c := dial(t, "tcp", server.tcp)
	c.write(wrap)
	c.closed()
	c = dial(t, "tcp", server.tcp)
	c.unsigned(stun.MethodBinding)
	c.write(wrap)
	c.closed()
	if got := server.Counters().Dropped[DropMalformed]; got != 2 && !onPlainPion() {
		t.Errorf("%d violations were counted, want 2", got)
	}
	dial(t, "tcp", server.tcp).unsigned(stun.MethodBinding)
}

func TestT06ChannelDataOverStream(t *testing.T) {
	server := startServer(t, testConfig(t))
	c := dial(t, "tcp", server.tcp)
	c.allocate()
	far := addrPortOf(echo(t))
	c.want(c.request(stun.MethodChannelBind, channel(0x4000), peerAddr(far)), 0)
	for _, size := range []int{0, 1, 2, 3, 4, 5, 7, 8, 100, 1400, 1600, 1601, 2048, 4096, 9000, 65504, 65507} {
		want := channelData(0x4000, strings.Repeat("x", size))
		c.write(want)
		if got := c.read(); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back as %d with %x", size, len(got), got[:4])
		}
	}
	// What no datagram of IPv4 can hold goes nowhere, and keeps nothing else from going: T07.
	for _, size := range []int{65508, 65535} {
		c.write(channelData(0x4000, strings.Repeat("x", size)))
		c.silent()
	}
	message := channelData(0x4000, "hello")
	for at := range message {
		c.write(message[:at])
		c.write(message[at:])
		if got := c.read(); !bytes.Equal(got, message) {
			t.Errorf("cut at %d it came back as %x", at, got)
		}
	}
	c.write(append(bytes.Clone(message), channelData(0x4000, "you")...))
	for _, want := range [][]byte{message, channelData(0x4000, "you")} {
		if got := c.read(); !bytes.Equal(got, want) {
			t.Errorf("two in one segment: got %x, want %x", got, want)
		}
	}
	// Requests and data in one segment, which ends in the middle of a message.
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

// TestEveryFrameLength wants ChannelData of every size to be framed with its padding, which the length does not count.
func TestEveryFrameLength(t *testing.T) {
	head := make([]byte, stun.ChannelDataHeaderLen)
	for size := range 1 << 16 {
		binary.BigEndian.PutUint16(head, 0x4000)
		binary.BigEndian.PutUint16(head[2:], uint16(size))
		want := stun.ChannelDataHeaderLen + size
		for want%4 != 0 {
			want++
		}
		n, err := nextFrame(bufio.NewReaderSize(bytes.NewReader(head), 16), false)
		if n != want || err != nil {
			t.Fatalf("%d bytes of data: a frame of %d, %v, want %d", size, n, err, want)
		}
	}
}

// TestLargestChannelData sends more than a datagram holds: between two allocations of the server nothing is one.
func TestLargestChannelData(t *testing.T) {
	server := startServer(t, testConfig(t))
	alice, bob := call(dial(t, "tcp", server.tcp), dial(t, "tcp", server.tcp))
	for _, size := range []int{65507, 65508, 65535} {
		text := strings.Repeat("x", size)
		alice.write(channelData(0x4000, text))
		if got, want := bob.read(), channelData(0x4001, text); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came as %d", size, len(got)-stun.ChannelDataHeaderLen)
		}
	}
}

// TestT08ByteByByte sends a long frame in pieces of one byte: it arrives, and costs no more stack than another.
func TestT08ByteByByte(t *testing.T) {
	listener := newPipeListener() // a pipe joins no pieces
	config := testConfig(t)
	if onPlainPion() {
		plain := plainPion(t, config, listenLoopback, nil, []net.Listener{addressedListener{listener, new(int)}})
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
	conn, err := listener.dial()
	if err != nil {
		t.Fatal(err)
	}
	c := newRawClient(t, conn, true)
	c.allocate()
	far := addrPortOf(echo(t))
	c.want(c.request(stun.MethodChannelBind, channel(0x4000), peerAddr(far)), 0)
	short, long := channelData(0x4000, "hello"), channelData(0x4001, strings.Repeat("x", 60000))
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
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x80\x00\x00\x00", "\xff\xff\xff\xff", "\x00\x01\x00\x03\x21\x12\xa4\x42",
		"\x00\x01\xff\xfc\x21\x12\xa4\x42", // a STUN message of 64 KiB, before there is an allocation
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
	ended := make(chan Event, 1)
	config.OnEvent = func(e Event) {
		if e.Kind == AllocationEnded {
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
		if e := <-ended; e.End != EndedConnection || e.Tuple.Transport != TCP {
			t.Errorf("event %+v", e)
		}
	}
}

func TestT09UnallocatedConnectionsEnd(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		connect := func() *rawClient {
			conn, err := b.stream.dial()
			if err != nil {
				b.Fatal(err)
			}
			return newRawClient(b, conn, true)
		}
		start := time.Now()
		idle, busy, half := connect(), connect(), connect()
		half.write([]byte{0x00, 0x03, 0x00})
		for time.Since(start) < unallocatedTimeout-time.Second {
			busy.unsigned(stun.MethodBinding)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second + time.Millisecond)
		for i, c := range []*rawClient{idle, busy, half} {
			if frame, err := c.tryRead(time.Second); frame != nil || err != nil {
				t.Errorf("connection %d: %x, %v, want it closed", i, frame, err)
			}
		}
		// An allocation keeps its connection, and its end does not end it at once.
		c := connect()
		c.allocate()
		time.Sleep(5 * time.Minute)
		c.want(c.request(stun.MethodRefresh, lifetime(0)), 0)
		time.Sleep(unallocatedTimeout - time.Second)
		if a := c.request(stun.MethodAllocate, transportUDP); a.code != 0 {
			t.Errorf("Allocate on the same connection answered %d", a.code)
		}
		time.Sleep(DefaultLifetime + janitorPeriod + unallocatedTimeout)
		synctest.Wait()
		if n := b.server.Counters().Streams; n != 0 {
			t.Errorf("%d connections outlive their allocations", n)
		}
	})
}

func TestT09SlowReaderBlocksNobody(t *testing.T) {
	inBubble(t, func(c *Config) { c.NonceLifetime = time.Hour }, func(b *bubble) {
		conn, err := b.stream.dial()
		if err != nil {
			b.Fatal(err)
		}
		slow := newRawClient(b, conn, true)
		relayed := slow.allocate()
		peer := b.listen()
		slow.want(slow.request(stun.MethodChannelBind, channel(0x4000), peerAddr(peer.addr)), 0)
		// Nobody reads at the other end of the pipe. Media piles up to the bound and is dropped beyond it.
		payload := make([]byte, 1400)
		for range 2 * maxMediaQueue / len(payload) {
			if _, err := peer.WriteToUDPAddrPort(payload, relayed); err != nil {
				b.Fatal(err)
			}
			synctest.Wait()
		}
		if got := b.server.Counters().Dropped[DropQueue]; got < uint64(maxMediaQueue/len(payload)/2) {
			t.Errorf("%d packets were dropped", got)
		}
		// Meanwhile others are served, over the same listener too.
		other, err := b.stream.dial()
		if err != nil {
			b.Fatal(err)
		}
		newRawClient(b, other, true).unsigned(stun.MethodBinding)
		b.client().allocate()
		// It is not given up before its allocation is.
		time.Sleep(DefaultLifetime - time.Second)
		synctest.Wait()
		if n := b.server.Allocations(); n != 2 {
			t.Errorf("%d allocations, want those of both clients", n)
		}
		time.Sleep(janitorPeriod + unallocatedTimeout + 2*time.Second)
		synctest.Wait()
		if n := b.server.Counters().Streams; n != 0 {
			t.Errorf("%d connections outlive their allocations", n)
		}
	})
}

// TestNewestMediaIsDropped wants a client that does not read to get what came first, and answers whatever came before them.
func TestNewestMediaIsDropped(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	var c counters
	s := newStream(newStreamLink(1, &c), far)
	numbered := func(n int) []byte { return channelData(0x4000, fmt.Sprintf("%04d", n)+strings.Repeat("x", 996)) }
	fits := maxMediaQueue / len(numbered(0))
	var want []byte
	for n := range fits + 10 {
		if err := s.enqueue(numbered(n), media); (err == nil) != (n < fits) {
			t.Errorf("message %d of %d that fit: %v", n, fits, err)
		}
		if n < fits {
			want = append(want, numbered(n)...)
		}
	}
	answer := []byte("answered")
	if err := s.enqueue(answer, control); err != nil || s.shut {
		t.Errorf("the answer: %v, given up: %v", err, s.shut)
	}
	if want = append(want, answer...); !bytes.Equal(s.queue, want) {
		t.Errorf("the queue has %d bytes, want the first %d messages and the answer, %d bytes", len(s.queue), fits, len(want))
	}
}

func TestAnswersBeyondTheQueueEndTheConnection(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	var c counters
	s := newStream(newStreamLink(1, &c), far)
	for range maxControlQueue/1000 + 1 {
		_ = s.enqueue(make([]byte, 1000), control)
	}
	if !s.shut || len(s.queue) > maxControlQueue {
		t.Errorf("the queue has %d bytes, given up %v", len(s.queue), s.shut)
	}
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the connection still reads")
	}
}

// turnutils_uclient looks at the first message of a TLS record only.
func TestOneRecordForEachMessage(t *testing.T) {
	messages := [][]byte{channelData(0x4000, "hello"), channelData(0x4000, ""), channelData(0x4001, "you")}
	for transport, want := range map[Transport][][]byte{TCP: {bytes.Join(messages, nil)}, TLS: messages} {
		near, far := net.Pipe()
		var c counters
		s := newStream(newStreamLink(1, &c), far)
		s.tuple.Transport = transport
		for _, m := range messages {
			_ = s.enqueue(m, media)
		}
		written := make(chan struct{})
		go func() { defer close(written); s.write() }()
		for _, w := range want {
			buf := make([]byte, 1600)
			if n, err := near.Read(buf); err != nil || !bytes.Equal(buf[:n], w) { // a pipe keeps writes apart
				t.Errorf("%v: wrote %x, %v, want %x", transport, buf[:n], err, w)
			}
		}
		close(s.gone)
		<-written
		_ = near.Close()
	}
}

func TestT04AcceptErrorsEndNothing(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		conn, err := b.stream.dial()
		if err != nil {
			b.Fatal(err)
		}
		c := newRawClient(b, conn, true)
		c.allocate()
		for range 10 {
			b.stream.errs <- fmt.Errorf("accept: %w", syscall.EMFILE)
			b.stream.errs <- fmt.Errorf("accept: %w", syscall.ECONNABORTED)
		}
		c.want(c.request(stun.MethodRefresh), 0)
		conn, err = b.stream.dial()
		if err != nil {
			b.Fatal(err)
		}
		newRawClient(b, conn, true).allocate()
	})
}

// TestMaxStreams fills a listener. Connections with an allocation keep their places, those without do not.
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

// TestMaxUnallocated opens more connections than may be without an allocation: the others are closed long before MaxStreams.
func TestMaxUnallocated(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		connect := func() *rawClient {
			conn, err := b.stream.dial()
			if err != nil {
				b.Fatal(err)
			}
			return newRawClient(b, conn, true)
		}
		kept, ended := connect(), connect()
		kept.allocate()
		ended.allocate()
		ended.want(ended.request(stun.MethodRefresh, lifetime(0)), 0)
		for range maxUnallocated + 99 {
			connect()
		}
		synctest.Wait()
		if got := b.server.Counters(); got.Streams != 1+maxUnallocated || got.StreamsRefused != 100 {
			t.Errorf("%d connections, %d refused, want %d and 100", got.Streams, got.StreamsRefused, 1+maxUnallocated)
		}
		kept.want(kept.request(stun.MethodRefresh), 0)
	})
}

// TestGivenUpIsForGood ends a connection while its client has a request on the way: no allocation that this makes lets the
// connection live on, of which nobody would hear any more.
func TestGivenUpIsForGood(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	s := newStream(newStreamLink(1, new(counters)), far)
	s.giveUp()
	s.allocated(true)
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection reads on: %v", err)
	}
}

// TestSlowReaderIsServed has a client read little by little what has piled up for it.
func TestSlowReaderIsServed(t *testing.T) {
	for _, transport := range []Transport{TCP, TLS} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			s := newStream(newStreamLink(1, new(counters)), far)
			s.tuple.Transport = transport
			message, queued := channelData(0x4000, strings.Repeat("x", 996)), 0
			for ; queued+len(message) <= maxMediaQueue; queued += len(message) {
				_ = s.enqueue(message, media)
			}
			written := make(chan struct{})
			go func() { defer close(written); s.write() }()
			buf := make([]byte, 8<<10)
			for got := 0; got < queued; {
				time.Sleep(25 * time.Second)
				n, err := near.Read(buf)
				if err != nil {
					t.Fatalf("%v: %v after %d bytes of %d", transport, err, got, queued)
				}
				got += n
			}
			close(s.gone)
			<-written
		})
	}
}

func TestHandshakeThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := newPipeListener()
		server, err := New(testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- server.ServeStream(tls.NewListener(listener, &tls.Config{GetCertificate: never})) }()
		conn, err := listener.dial()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the server spoke first")
		}
		if took := time.Since(start); took != handshakeTimeout {
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

// A client that comes back from the same address must not meet what its old connection left behind.
func TestConnectionsOfOneAddressAreApart(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		first, err := b.stream.dial()
		if err != nil {
			b.Fatal(err)
		}
		second, err := b.stream.dial() // the pipes have no addresses: the same 5-tuple
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

func FuzzFraming(f *testing.F) {
	f.Add([]byte{0x40, 0x00, 0xFF, 0xFC, 1, 2, 3, 4, 5})
	f.Add(channelData(0x4000, "hello"))
	f.Add([]byte("\x00\x01\x00\x04\x21\x12\xa4\x42xxxxxxxxxxxx\x00\x00\x00\x00\x40\x00\x00\x01x..."))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(b), 16)
		rest := b
		for first := true; ; first = false {
			n, err := nextFrame(r, first)
			if err != nil {
				return
			}
			if n < stun.ChannelDataHeaderLen || n%4 != 0 || n > stun.HeaderLen+65536 {
				t.Fatalf("frame of %d bytes", n)
			}
			if first && stun.IsChannelData(rest[0]) {
				t.Fatal("ChannelData as the first frame")
			}
			frame := make([]byte, n)
			if _, err := io.ReadFull(r, frame); err != nil {
				return
			}
			if !bytes.Equal(frame, rest[:n]) {
				t.Fatal("the frame is not what was there")
			}
			rest = rest[n:]
		}
	})
}
