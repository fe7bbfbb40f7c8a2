// Package turnclient is a TURN client (RFC 8656) that shows the server's answers: the challenge, error codes, lifetimes, and how
// long each answer took. It is for examining servers and putting load on them; it does not refresh allocations by itself.
//
// pion's client is not used, because it hides the challenge and the lifetime, supports only IPv4 servers, and does not tell whether
// data came on a channel or in an indication.
package turnclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// firstRTO is the delay before the first retransmission over UDP. It doubles each time (RFC 8489 section 6.2.1), until the context
// ends.
const firstRTO = 500 * time.Millisecond

// writeTimeout is how long a server may not read from a stream. Then the stream ends, possibly within a message.
const writeTimeout = 5 * time.Second

// maxMessage limits the length of a message. The answers that this client requests are shorter.
const maxMessage = 4096

// Config configures a Client.
type Config struct {
	// Conn is connected to the server. The client owns it.
	Conn net.Conn
	// Stream says that Conn is a TCP or TLS connection, a stream of messages (RFC 8656 section 12.5).
	Stream             bool
	Username, Password string
}

// Data is one datagram from a peer.
type Data struct {
	Channel stun.ChannelNumber // 0 if it came in a Data indication
	Peer    netip.AddrPort     // invalid if it came on a channel
	Payload []byte
}

// Client is one 5-tuple with at most one allocation. Its methods may be called on several goroutines, but only one request at a
// time.
type Client struct {
	conn   net.Conn
	stream bool
	onData atomic.Pointer[func(Data)]

	username, password string
	realm, nonce       string
	key                []byte

	mu      sync.Mutex // guards waiting and err
	waiting map[stun.TransactionID]chan<- []byte
	err     error // why the reader has ended

	writing sync.Mutex // guards out and the order on a stream
	out     stun.Builder

	done chan struct{} // closed when the reader has ended
}

// Error is an error response.
type Error struct {
	Method stun.Method
	Code   stun.ErrorCode
	Reason string // the server's text, at most 763 bytes
}

func (e *Error) Error() string {
	reason := e.Reason
	if reason == "" {
		reason = e.Code.Reason()
	}
	return fmt.Sprintf("%v: %d %s", e.Method, e.Code, reason)
}

// Code returns the error code of an *Error in err's chain, or 0.
func Code(err error) stun.ErrorCode {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.Code
	}
	return 0
}

// ErrNoAnswer is returned if the context ends before the answer comes.
var ErrNoAnswer = errors.New("no answer")

// ErrIntegrity is returned for a success response that was not signed with the password (RFC 8489 section 9.2.5).
var ErrIntegrity = errors.New("the answer has no MESSAGE-INTEGRITY, or a wrong one")

// New starts a client. Close ends it.
func New(c Config) *Client {
	client := &Client{
		conn: c.Conn, stream: c.Stream, username: c.Username, password: c.Password,
		waiting: make(map[stun.TransactionID]chan<- []byte), done: make(chan struct{}),
	}
	go client.read()
	return client
}

// Handle makes the client call f with the data of peers, instead of an earlier function; before the first call of Handle, data is
// dropped. f runs on the goroutine that reads, so it must not wait for other messages. The payload is valid only during the call.
func (c *Client) Handle(f func(Data)) { c.onData.Store(&f) }

// Close closes the connection and waits for the reader. It does not end the allocation: see Refresh.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

// LocalAddr returns the client's own transport address.
func (c *Client) LocalAddr() netip.AddrPort { return addrPort(c.conn.LocalAddr()) }

func addrPort(addr net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch addr := addr.(type) {
	case *net.UDPAddr:
		ap = addr.AddrPort()
	case *net.TCPAddr:
		ap = addr.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func (c *Client) read() {
	defer close(c.done)
	buf := make([]byte, maxMessage)
	for {
		message, err := c.next(buf)
		if err != nil {
			c.fail(err)
			return
		}
		c.dispatch(message)
	}
}

// next reads one message into buf.
func (c *Client) next(buf []byte) ([]byte, error) {
	if !c.stream {
		for {
			n, err := c.conn.Read(buf)
			if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) {
				return buf[:n], err
			}
			c.fail(err) // an ICMP error ends the pending requests; later ones may succeed
		}
	}
	if _, err := io.ReadFull(c.conn, buf[:stun.ChannelDataHeaderLen]); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(buf[2:])) + stun.HeaderLen
	if stun.IsChannelData(buf[0]) {
		length = (length-stun.HeaderLen+3)&^3 + stun.ChannelDataHeaderLen
	} else if buf[0]&0xC0 != 0 {
		return nil, stun.ErrNotSTUN
	}
	if length > len(buf) {
		return nil, fmt.Errorf("a message of %d bytes", length)
	}
	_, err := io.ReadFull(c.conn, buf[stun.ChannelDataHeaderLen:length])
	return buf[:length], err
}

// fail records the first error and wakes all waiting requests.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil || errors.Is(err, net.ErrClosed) {
		c.err = err
	}
	for id, wait := range c.waiting {
		delete(c.waiting, id)
		close(wait)
	}
}

func (c *Client) dispatch(b []byte) {
	onData := c.onData.Load()
	if len(b) > 0 && stun.IsChannelData(b[0]) {
		if number, data, err := stun.ParseChannelData(b); err == nil && onData != nil {
			(*onData)(Data{Channel: number, Payload: data})
		}
		return
	}
	m, err := stun.Parse(b)
	if err != nil {
		return
	}
	switch {
	case m.Class == stun.ClassIndication && m.Method == stun.MethodData && onData != nil:
		var d Data
		for t, value := range m.Attributes() {
			switch t {
			case stun.AttrXORPeerAddress:
				d.Peer, _ = stun.ParseXORAddress(value, m.TransactionID)
			case stun.AttrData:
				d.Payload = value
			}
		}
		(*onData)(d)
	case m.Class == stun.ClassSuccess || m.Class == stun.ClassError: // not the request, which an echo server sends back
		c.mu.Lock()
		wait := c.waiting[m.TransactionID]
		delete(c.waiting, m.TransactionID)
		c.mu.Unlock()
		if wait != nil {
			wait <- bytes.Clone(b) // has room for one answer, and the entry has been removed
		}
	}
}

// answer is a response, with facts about the transaction.
type answer struct {
	message      stun.Message
	raw          []byte
	request      int // bytes
	transmission int // how often it was sent
	duration     time.Duration
}

func (a *answer) attr(want stun.AttrType) []byte {
	for t, value := range a.message.Attributes() {
		if t == want {
			return value
		}
	}
	return nil
}

// transact sends a message, and over UDP retransmits it, until its answer comes or ctx ends.
func (c *Client) transact(ctx context.Context, method stun.Method, add func(b *stun.Builder)) (answer, error) {
	var id stun.TransactionID
	_, _ = rand.Read(id[:]) // never fails
	var b stun.Builder
	b.Start(method, stun.ClassRequest, id)
	add(&b)

	wait := make(chan []byte, 1)
	c.mu.Lock()
	c.waiting[id] = wait
	if errors.Is(c.err, net.ErrClosed) || c.stream && c.err != nil {
		close(wait)
		delete(c.waiting, id)
	} else {
		c.err = nil
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()

	a := answer{request: b.Len()}
	start, rto := time.Now(), firstRTO
	for {
		a.transmission++
		if err := c.write(b.Bytes()); err != nil {
			return a, fmt.Errorf("%v: %w", method, err)
		}
		var again <-chan time.Time
		if !c.stream {
			again = time.After(rto)
			rto *= 2
		}
		select {
		case raw, ok := <-wait:
			a.duration = time.Since(start)
			if !ok {
				c.mu.Lock()
				defer c.mu.Unlock()
				return a, fmt.Errorf("%v: %w", method, c.err)
			}
			a.raw = raw
			a.message, _ = stun.Parse(raw) // parsed before
			return a, nil
		case <-again:
		case <-ctx.Done():
			return a, fmt.Errorf("%v: %w", method, ErrNoAnswer)
		}
	}
}

func (c *Client) write(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeLocked(b)
}

func (c *Client) writeLocked(b []byte) error {
	if c.stream {
		_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	_, err := c.conn.Write(b)
	return err
}

// refusal returns the error of an error response, and nil for other responses.
func (a *answer) refusal() error {
	if a.message.Class != stun.ClassError {
		return nil
	}
	refused := &Error{Method: a.message.Method}
	if value := a.attr(stun.AttrErrorCode); len(value) >= 4 {
		refused.Code = stun.ErrorCode(int(value[2]&7)*100 + int(value[3]))
		refused.Reason = string(value[4:min(len(value), 4+763)])
	}
	return refused
}

// authenticated sends a request with the credential, and repeats it once if the server sends a new nonce (RFC 8489 section 9.2.5).
func (c *Client) authenticated(ctx context.Context, method stun.Method, add func(b *stun.Builder)) (answer, error) {
	for try := 0; ; try++ {
		a, err := c.transact(ctx, method, func(b *stun.Builder) {
			add(b)
			b.Text(stun.AttrUsername, c.username)
			b.Text(stun.AttrRealm, c.realm)
			b.Text(stun.AttrNonce, c.nonce)
			b.MessageIntegrity(c.key)
		})
		if err != nil {
			return a, err
		}
		refused := a.refusal()
		switch {
		case Code(refused) == stun.CodeStaleNonce && try == 0:
			c.nonce = string(a.attr(stun.AttrNonce))
		case refused != nil:
			return a, refused
		case !a.message.VerifyIntegrity(c.key):
			return a, fmt.Errorf("%v: %w", method, ErrIntegrity)
		default:
			return a, nil
		}
	}
}

// use stores the realm and the nonce of a challenge.
func (c *Client) use(challenge Challenge) {
	c.realm, c.nonce = challenge.Realm, challenge.nonce
	c.key = credential.LongTermKey(c.username, c.realm, c.password)
}
