package coturn

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// A relayUnderTest listens on loopback with UDP, TCP and TLS, and knows the user alice.
type relayUnderTest struct {
	endpoint *turn.Endpoint
	port     uint16 // of UDP and TCP; TLS uses the next one
	log      *lockedBuffer
}

func (r *relayUnderTest) address(network string) string {
	port := r.port
	if network == "tls" {
		port++
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

// runRelay starts a relay until the end of the test. change, if not nil, changes its configuration.
func runRelay(t *testing.T, change func(*turn.Config)) *relayUnderTest {
	t.Helper()
	dir := certificate(t)
	for attempt := 0; ; attempt++ {
		r := &relayUnderTest{port: freePort(t), log: new(lockedBuffer)}
		c := turn.Config{
			Name: "turn", Realm: "example.org",
			Users:        map[string]credential.Secret{"alice": credential.NewSecret([]byte("wonderland"))},
			Secrets:      []credential.Secret{credential.NewSecret([]byte("correct horse battery staple"))},
			RelayIP:      []netip.Addr{netip.MustParseAddr("127.0.0.1")},
			TLS:          []certs.Pair{{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}},
			ListenRanges: make([]hcl.Range, 3),
			Settings: turn.Settings{
				RelayPorts: config.Value[turn.PortRange]{V: turn.PortRange{Min: 49152, Max: 65535}},
				Peers:      turn.PeersSchema{Allow: config.Value[[]netip.Prefix]{V: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
			},
			Listen: []listen.Addr{{Scheme: "udp", Host: "127.0.0.1", Port: r.port}, {Scheme: "tcp", Host: "127.0.0.1", Port: r.port}, {Scheme: "tls", Host: "127.0.0.1", Port: r.port + 1}},
		}
		if change != nil {
			change(&c)
		}
		endpoint, err := turn.New(c, slog.New(slog.NewTextHandler(r.log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		r.endpoint = endpoint
		if err := endpoint.Start(t.Context()); err != nil {
			if attempt < 10 { // another process has taken it
				continue
			}
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := endpoint.Shutdown(context.Background()); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
		return r
	}
}

// freePort returns a port that is free, as the next one probably is.
func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).AddrPort().Port()
}

// patience is the time limit for answers, which arrive immediately unless the machine is overloaded.
const patience = 20 * time.Second

// A client speaks TURN message by message.
type client struct {
	t       *testing.T
	relay   *relayUnderTest
	conn    net.Conn
	stream  bool
	serial  byte
	builder stun.Builder

	realm      string
	nonce, key []byte
	relayed    netip.AddrPort // of its allocation
}

// dial connects a client over udp or tcp.
func dial(t *testing.T, r *relayUnderTest, network string) *client {
	t.Helper()
	conn, err := net.Dial(network, r.address(network))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, relay: r, conn: conn, stream: network == "tcp"}
}

// allocated returns a client with an allocation.
func allocated(t *testing.T, r *relayUnderTest) *client {
	t.Helper()
	c := dial(t, r, "udp")
	m := c.want(0, stun.MethodAllocate, udpRelay)
	relayed, err := stun.ParseXORAddress(c.value(m, stun.AttrXORRelayedAddress), m.TransactionID)
	if err != nil {
		t.Fatal(err)
	}
	c.relayed = relayed
	return c
}

// set adds attributes to a message.
type set func(*stun.Builder)

func attr(typ stun.AttrType, value ...byte) set {
	return func(b *stun.Builder) { b.Attr(typ, value) }
}

func peerAddr(addr string) set {
	return func(b *stun.Builder) { b.XORAddress(stun.AttrXORPeerAddress, netip.MustParseAddrPort(addr)) }
}

var udpRelay = attr(stun.AttrRequestedTransport, 17, 0, 0, 0)

// message returns a request without credentials. It is valid until the next call.
func (c *client) message(method stun.Method, sets ...set) []byte {
	c.serial++
	c.builder.Start(method, stun.ClassRequest, stun.TransactionID{c.serial})
	for _, set := range sets {
		set(&c.builder)
	}
	return c.builder.Bytes()
}

// signed returns a request with the credentials of alice.
func (c *client) signed(method stun.Method, sets ...set) []byte {
	c.message(method, sets...)
	c.builder.Text(stun.AttrUsername, "alice")
	c.builder.Text(stun.AttrRealm, c.realm)
	c.builder.Attr(stun.AttrNonce, c.nonce)
	c.builder.MessageIntegrity(c.key)
	return c.builder.Bytes()
}

// want sends a request with credentials, and checks the error code, 0 for success.
func (c *client) want(want int, method stun.Method, sets ...set) stun.Message {
	c.t.Helper()
	if c.nonce == nil {
		challenge := c.exchange(c.message(stun.MethodAllocate, udpRelay))
		c.realm, c.nonce = string(c.value(challenge, stun.AttrRealm)), c.value(challenge, stun.AttrNonce)
		c.key = credential.LongTermKey("alice", c.realm, "wonderland")
	}
	answer := c.exchange(c.signed(method, sets...))
	if got := code(answer); got != want {
		c.t.Errorf("%v: got %d, want %d", method, got, want)
	}
	return answer
}

// exchange sends a message and returns the next one that arrives.
func (c *client) exchange(b []byte) stun.Message {
	c.t.Helper()
	c.write(b)
	return c.read()
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) read() stun.Message {
	c.t.Helper()
	b := make([]byte, 2000)
	n, err := 0, error(nil)
	if c.stream {
		if _, err = io.ReadFull(c.conn, b[:20]); err == nil {
			n = 20 + int(binary.BigEndian.Uint16(b[2:]))
			_, err = io.ReadFull(c.conn, b[20:n])
		}
	} else {
		n, err = c.conn.Read(b)
	}
	if err != nil {
		c.t.Fatalf("no message: %v", err)
	}
	m, err := stun.Parse(b[:n])
	if err != nil {
		c.t.Fatalf("%v: %x", err, b[:n])
	}
	return m
}

// silent checks that b gets no answer: the next message answers a later request.
func (c *client) silent(b []byte) {
	c.t.Helper()
	c.write(b)
	if m := c.exchange(c.message(stun.MethodBinding)); m.TransactionID[0] != c.serial {
		c.t.Errorf("got an answer to %q", b)
	}
}

// value returns the value of an attribute, and fails the test if m lacks it.
func (c *client) value(m stun.Message, typ stun.AttrType) []byte {
	c.t.Helper()
	for t, value := range m.Attributes() {
		if t == typ {
			return value
		}
	}
	c.t.Fatalf("no attribute %#x", uint16(typ))
	return nil
}

// lacks fails the test if an attribute is in m.
func (c *client) lacks(m stun.Message, typ stun.AttrType) {
	c.t.Helper()
	for t := range m.Attributes() {
		if t == typ {
			c.t.Errorf("there is an attribute %#x", uint16(typ))
		}
	}
}

// code returns the error code of a response, or 0.
func code(m stun.Message) int {
	for t, value := range m.Attributes() {
		if t == stun.AttrErrorCode && len(value) >= 4 {
			return int(value[2])*100 + int(value[3])
		}
	}
	return 0
}
