package turnsrv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/framing"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// rawClient builds TURN messages byte by byte, so that it can also send messages that no library would.
type rawClient struct {
	t    testing.TB
	conn net.Conn // to the server; a stream is cut into frames by read

	credential credential.Credential
	realm      string
	key        []byte
	nonce      []byte
	serial     byte
	stream     bool
	pending    []byte // of a stream
	skipICMP   bool   // ignore ICMP errors
}

// dial connects to server over UDP or TCP.
func dial(t testing.TB, network string, server netip.AddrPort) *rawClient {
	t.Helper()
	conn, err := net.Dial(network, server.String())
	if err != nil {
		t.Fatal(err)
	}
	return newRawClient(t, conn, network == "tcp")
}

func newRawClient(t testing.TB, conn net.Conn, stream bool) *rawClient {
	t.Cleanup(func() { _ = conn.Close() })
	c := &rawClient{t: t, conn: conn, stream: stream, realm: turntest.TestRealm}
	c.use(turntest.TestCredential())
	return c
}

// use makes the client sign with another credential.
func (c *rawClient) use(cred credential.Credential) {
	c.credential = cred
	c.key = credential.LongTermKey(cred.Username, c.realm, cred.Password)
}

// write sends b unchanged.
func (c *rawClient) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// read returns the next message, or nil if the server closed the stream.
func (c *rawClient) read() []byte {
	c.t.Helper()
	b, err := c.tryRead(patience())
	if err != nil {
		c.t.Fatalf("no message: %v", err)
	}
	return b
}

func (c *rawClient) tryRead(timeout time.Duration) ([]byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(timeout)); errors.Is(err, io.ErrClosedPipe) {
		return nil, nil // a net.Pipe whose other end is closed
	} else if err != nil {
		return nil, err
	}
	buf := make([]byte, 70000)
	for {
		if c.stream {
			if len(c.pending) >= 4 {
				if n := framing.Len(c.pending); len(c.pending) >= n {
					frame := c.pending[:n]
					c.pending = c.pending[n:]
					return frame, nil
				}
			}
		}
		n, err := c.conn.Read(buf)
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if !c.stream && c.skipICMP && isICMP(buf[:n]) {
			continue
		}
		if !c.stream {
			return buf[:n], nil
		}
		c.pending = append(c.pending, buf[:n]...)
	}
}

// isICMP reports whether b is a Data indication with an ICMP error.
func isICMP(b []byte) bool {
	m, err := stun.Parse(b)
	if err != nil || m.Method != stun.MethodData {
		return false
	}
	for typ := range m.Attributes() {
		if typ == stun.AttrICMP {
			return true
		}
	}
	return false
}

// silent fails the test if the server sends a response. A Binding request after the message in question shows that it was
// processed, because the server responds in order.
func (c *rawClient) silent() {
	c.t.Helper()
	c.write(c.message(stun.MethodBinding, stun.ClassRequest))
	m := c.parse(c.read())
	if m.Method != stun.MethodBinding || m.TransactionID[0] != c.serial {
		c.t.Errorf("the server answered with %v class %d", m.Method, m.Class)
	}
}

// closed fails the test unless the server closes the connection.
func (c *rawClient) closed() {
	c.t.Helper()
	if b, err := c.tryRead(patience()); b != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("got %x, %v, want the connection closed", b, err) // the control waits for each one that is not
	}
}

// message builds a message without credentials.
func (c *rawClient) message(method stun.Method, class stun.Class, sets ...turntest.Set) []byte {
	c.serial++
	var b stun.Builder
	b.Start(method, class, stun.TransactionID{c.serial})
	for _, s := range sets {
		s(&b)
	}
	return bytes.Clone(b.Bytes())
}

// sign adds user name, realm, nonce and integrity.
func (c *rawClient) sign(b *stun.Builder) {
	b.Text(stun.AttrUsername, c.credential.Username)
	b.Text(stun.AttrRealm, c.realm)
	b.Attr(stun.AttrNonce, c.nonce)
	b.MessageIntegrity(c.key)
}

// challenge requests a nonce, keeps it for the next requests and returns it.
func (c *rawClient) challenge() []byte {
	c.t.Helper()
	c.nonce = bytes.Clone(c.unsigned(stun.MethodAllocate, turntest.TransportUDP).attrs[stun.AttrNonce])
	return c.nonce
}

// unsigned sends a request without credentials and returns the answer.
func (c *rawClient) unsigned(method stun.Method, sets ...turntest.Set) *answer {
	c.t.Helper()
	c.write(c.message(method, stun.ClassRequest, sets...))
	return c.answer(method)
}

// request sends a signed request. If there is no nonce yet, it requests one first.
func (c *rawClient) request(method stun.Method, sets ...turntest.Set) *answer {
	c.t.Helper()
	if c.nonce == nil {
		c.challenge()
	}
	c.write(c.message(method, stun.ClassRequest, append(sets, c.sign)...))
	a := c.answer(method)
	if nonce, ok := a.attrs[stun.AttrNonce]; ok {
		c.nonce = bytes.Clone(nonce)
	}
	return a
}

// answer is a response with its attributes by type.
type answer struct {
	stun.Message
	raw   []byte
	code  stun.ErrorCode // 0 for success
	attrs map[stun.AttrType][]byte
}

func (c *rawClient) answer(method stun.Method) *answer {
	c.t.Helper()
	raw := c.read()
	a := &answer{Message: c.parse(raw), raw: raw, attrs: map[stun.AttrType][]byte{}}
	if a.Method != method || a.TransactionID[0] != c.serial {
		c.t.Fatalf("answer is %v class %d id %x, want one to %v id %x", a.Method, a.Class, a.TransactionID[:1], method, c.serial)
	}
	maps.Insert(a.attrs, a.Attributes())
	switch a.Class {
	case stun.ClassError:
		code := a.attrs[stun.AttrErrorCode]
		if len(code) < 4 {
			c.t.Fatalf("error response with ERROR-CODE %x", code)
		}
		a.code = stun.ErrorCode(int(code[2])*100 + int(code[3]))
	case stun.ClassSuccess:
	default:
		c.t.Fatalf("answer has class %d", a.Class)
	}
	return a
}

func (c *rawClient) parse(b []byte) stun.Message {
	c.t.Helper()
	m, err := stun.Parse(b)
	if err != nil {
		c.t.Fatalf("the server sent %x: %v", b, err)
	}
	return m
}

// want fails the test unless the response has code (0 for success) and is signed if the request was verified.
func (c *rawClient) want(a *answer, code stun.ErrorCode) *answer {
	c.t.Helper()
	if a.code != code {
		c.t.Errorf("%v answered %d %q, want %d", a.Method, a.code, a.attrs[stun.AttrErrorCode], code)
		return a
	}
	switch code {
	case stun.CodeUnauthenticated, stun.CodeStaleNonce:
		signed := a.HasIntegrity()
		if code == stun.CodeStaleNonce && signed { // the owner of an allocation gets the nonce in a signed response
			signed = !a.VerifyIntegrity(c.key)
		}
		if string(a.attrs[stun.AttrRealm]) != turntest.TestRealm || len(a.attrs[stun.AttrNonce]) == 0 || signed {
			c.t.Errorf("%d with realm %q, nonce %q, integrity %v", code, a.attrs[stun.AttrRealm], a.attrs[stun.AttrNonce], a.HasIntegrity())
		}
	default:
		if code != 0 && string(a.attrs[stun.AttrErrorCode][4:]) != code.Reason() {
			c.t.Errorf("%d has the reason %q", code, a.attrs[stun.AttrErrorCode][4:])
		}
		if !a.VerifyIntegrity(c.key) {
			c.t.Errorf("%v answered %d without an integrity of ours", a.Method, code)
		}
	}
	return a
}

// allocate makes an allocation and returns its relayed address.
func (c *rawClient) allocate(sets ...turntest.Set) netip.AddrPort {
	c.t.Helper()
	a := c.want(c.request(stun.MethodAllocate, append([]turntest.Set{turntest.TransportUDP}, sets...)...), 0)
	return c.relayed(a)
}

func (c *rawClient) relayed(a *answer) netip.AddrPort {
	c.t.Helper()
	addr, err := stun.ParseXORAddress(a.attrs[stun.AttrXORRelayedAddress], a.TransactionID)
	if err != nil {
		c.t.Fatalf("XOR-RELAYED-ADDRESS: %v", err)
	}
	return addr
}

func (a *answer) lifetime() time.Duration {
	value := a.attrs[stun.AttrLifetime]
	if len(value) != 4 {
		return -1
	}
	return time.Duration(binary.BigEndian.Uint32(value)) * time.Second
}
