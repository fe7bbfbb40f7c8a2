// Package turnclient is a TURN client (RFC 8656) that shows what a server says: the challenge, error codes, lifetimes,
// and how long each answer took. It examines and loads servers; it keeps no allocation alive beyond its lifetime.
//
// pion's client is not used, because it swallows the challenge and the lifetime, takes IPv4 servers only, and hides
// whether data came on a channel or in an indication.
package turnclient

import (
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

// firstRTO is the first retransmission's delay over UDP, which doubles each time (RFC 8489 section 6.2.1). How often is
// the context's to say.
const firstRTO = 500 * time.Millisecond

// writeTimeout is how long a server may leave a stream unread. It ends the stream, in the midst of a message.
const writeTimeout = 5 * time.Second

// maxMessage bounds a message that is read. Nothing that this client asks for is longer.
const maxMessage = 4096

// Config is what a client is made of.
type Config struct {
	// Conn is connected to the server. The client owns it.
	Conn net.Conn
	// Stream says that Conn is TCP or TLS and messages are cut from it (RFC 8656 section 12.5).
	Stream             bool
	Username, Password string
}

// Data is one datagram of a peer.
type Data struct {
	Channel stun.ChannelNumber // 0 if it came in a Data indication
	Peer    netip.AddrPort     // invalid if it came on a channel
	Payload []byte
}

// Client is one 5-tuple with at most one allocation. Its methods may be called from several goroutines, requests one at a
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
	err     error // why the reader ended

	writing sync.Mutex // guards out and the order on a stream
	out     stun.Builder

	done chan struct{} // closed when the reader has ended
}

// Error is an error response.
type Error struct {
	Method stun.Method
	Code   stun.ErrorCode
	Reason string // as the server wrote it, at most 763 bytes
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

// ErrNoAnswer is returned when the context ended before the answer came.
var ErrNoAnswer = errors.New("no answer")

// ErrIntegrity is returned for a success response that was not made with the password (RFC 8489 section 9.2.5).
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

// Handle has f called with what peers send from here on, in place of the function before; until the first call nobody gets
// it. f runs on the goroutine that reads, and must not wait for what that reads. The payload is valid during the call only.
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
			c.fail(err) // an ICMP error ends the requests under way, and the next one may do better
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

// fail keeps the first error and wakes those who wait.
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
	case m.Class == stun.ClassSuccess || m.Class == stun.ClassError: // and not the request, which an echo server sends back
		c.mu.Lock()
		wait := c.waiting[m.TransactionID]
		delete(c.waiting, m.TransactionID)
		c.mu.Unlock()
		if wait != nil {
			wait <- append([]byte(nil), b...) // one place, one answer: the entry is gone
		}
	}
}

// answer is a response with what became known on the way.
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

// transact sends a message, over UDP again and again, until its answer comes or ctx ends.
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
			a.message, _ = stun.Parse(raw) // did, or it would not be here
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

// refusal returns the error of an error response, else nil.
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

// authenticated sends a request with the credential, and once more when the server gives a new nonce (RFC 8489 section
// 9.2.5).
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

// use takes the realm and the nonce of a challenge.
func (c *Client) use(challenge Challenge) {
	c.realm, c.nonce = challenge.Realm, challenge.nonce
	c.key = credential.LongTermKey(c.username, c.realm, c.password)
}
