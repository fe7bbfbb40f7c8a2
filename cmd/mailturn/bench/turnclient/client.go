// Package turnclient is a TURN client that costs little, for load: one request at a time, over a connection that the caller
// has made.
package turnclient

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	// resendAfter and attempts are for datagrams. The first is long enough that a busy machine is not taken for a lossy one.
	resendAfter = time.Second
	attempts    = 8
	// answerTimeout is for streams.
	answerTimeout = 30 * time.Second

	maxMessage = 2048
)

// protocolUDP is what REQUESTED-TRANSPORT asks for, RFC 8656 section 18.8.
const protocolUDP = 17

// Error is an error response.
type Error struct {
	Method stun.Method
	Code   stun.ErrorCode
}

// Error implements error.
func (e Error) Error() string {
	return fmt.Sprintf("%v was answered with %d %s", e.Method, int(e.Code), e.Code.Reason())
}

// Client is one 5-tuple. It is for one goroutine, except where a method says otherwise.
type Client struct {
	// Resent counts the requests that had to be sent again, over datagrams.
	Resent int

	conn       net.Conn
	stream     bool // frames follow one another, RFC 8656 section 12.5
	credential credential.Credential
	realm      string
	key        []byte
	nonce      []byte

	builder stun.Builder
	id      stun.TransactionID
	buf     []byte // unread begins here
	unread  []byte // of a stream
	onData  func(channel stun.ChannelNumber, data []byte)
}

// New returns a client on conn, which it owns. stream says that conn is one of TCP or TLS. onData, if it is not nil, gets the
// ChannelData that comes while an answer is awaited or Receive runs; data is valid during the call.
func New(conn net.Conn, stream bool, c credential.Credential, onData func(channel stun.ChannelNumber, data []byte)) *Client {
	return &Client{conn: conn, stream: stream, credential: c, onData: onData}
}

// Allocate makes an allocation for lifetime, and asks for a nonce before, as a client does that comes for the first time. The
// error is an Error when the server refused.
func (c *Client) Allocate(lifetime time.Duration) (relayed netip.AddrPort, err error) {
	m, err := c.request(stun.MethodAllocate, func(b *stun.Builder) {
		b.Uint32(stun.AttrRequestedTransport, protocolUDP<<24)
		b.Uint32(stun.AttrLifetime, uint32(lifetime/time.Second))
	})
	if err != nil {
		return netip.AddrPort{}, err
	}
	return stun.ParseXORAddress(attribute(&m, stun.AttrXORRelayedAddress), m.TransactionID)
}

// Refresh gives the allocation another lifetime; zero ends it.
func (c *Client) Refresh(lifetime time.Duration) error {
	_, err := c.request(stun.MethodRefresh, func(b *stun.Builder) {
		b.Uint32(stun.AttrLifetime, uint32(lifetime/time.Second))
	})
	return err
}

// BindChannel binds a channel to a peer.
func (c *Client) BindChannel(channel stun.ChannelNumber, peer netip.AddrPort) error {
	_, err := c.request(stun.MethodChannelBind, func(b *stun.Builder) {
		b.Uint32(stun.AttrChannelNumber, uint32(channel)<<16)
		b.XORAddress(stun.AttrXORPeerAddress, peer)
	})
	return err
}

// Send sends ChannelData, whose channel has to be bound.
func (c *Client) Send(channel stun.ChannelNumber, data []byte) error {
	c.builder.ChannelData(channel, data)
	_, err := c.conn.Write(c.builder.Bytes())
	return err
}

// Receive waits for ChannelData until the time is over, which is no error, and gives it to the client's function.
func (c *Client) Receive(until time.Time) error {
	for {
		b, err := c.read(until)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		c.take(b)
	}
}

// Close closes the connection. Over datagrams the server does not hear of it.
func (c *Client) Close() error { return c.conn.Close() }

// request sends a request, signed if there is a nonce, and again with the nonce that it gets if that was missing or stale.
func (c *Client) request(method stun.Method, attributes func(b *stun.Builder)) (stun.Message, error) {
	for range 3 {
		b := &c.builder
		binary.BigEndian.PutUint64(c.id[4:], binary.BigEndian.Uint64(c.id[4:])+1)
		b.Start(method, stun.ClassRequest, c.id)
		attributes(b)
		if c.nonce != nil {
			b.Text(stun.AttrUsername, c.credential.Username)
			b.Text(stun.AttrRealm, c.realm)
			b.Attr(stun.AttrNonce, c.nonce)
			b.MessageIntegrity(c.key)
		}
		m, err := c.exchange(b.Bytes())
		if err != nil {
			return m, fmt.Errorf("%v: %w", method, err)
		}
		if m.Class == stun.ClassSuccess {
			return m, nil
		}
		code := codeOf(&m)
		if code != stun.CodeStaleNonce && (code != stun.CodeUnauthenticated || c.nonce != nil) {
			return m, Error{method, code}
		}
		c.nonce = append(c.nonce[:0], attribute(&m, stun.AttrNonce)...)
		if realm := attribute(&m, stun.AttrRealm); c.realm != string(realm) {
			c.realm = string(realm)
			c.key = credential.LongTermKey(c.credential.Username, c.realm, c.credential.Password)
		}
	}
	return stun.Message{}, Error{method, stun.CodeStaleNonce}
}

// exchange sends a request until its answer comes.
func (c *Client) exchange(request []byte) (stun.Message, error) {
	timeout, times := resendAfter, attempts
	if c.stream {
		timeout, times = answerTimeout, 1
	}
	for i := range times {
		if i > 0 {
			c.Resent++
		}
		if _, err := c.conn.Write(request); err != nil {
			return stun.Message{}, err
		}
		for until := time.Now().Add(timeout); ; {
			b, err := c.read(until)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return stun.Message{}, err
			}
			if m, ok := c.take(b); ok && m.TransactionID == c.id {
				return m, nil
			}
		}
	}
	return stun.Message{}, os.ErrDeadlineExceeded
}

// take gives away ChannelData, and returns what else it is.
func (c *Client) take(b []byte) (stun.Message, bool) {
	if len(b) > 0 && stun.IsChannelData(b[0]) {
		if channel, data, err := stun.ParseChannelData(b); err == nil && c.onData != nil {
			c.onData(channel, data)
		}
		return stun.Message{}, false
	}
	m, err := stun.Parse(b)
	return m, err == nil
}

// read returns the next message. It is valid until the next call.
func (c *Client) read(until time.Time) ([]byte, error) {
	if c.buf == nil {
		c.buf = make([]byte, maxMessage)
	}
	if err := c.conn.SetReadDeadline(until); err != nil {
		return nil, err
	}
	if !c.stream {
		n, err := c.conn.Read(c.buf)
		return c.buf[:n], err
	}
	for {
		if len(c.unread) >= stun.ChannelDataHeaderLen {
			n := frameLen(c.unread)
			if n > len(c.buf) {
				return nil, fmt.Errorf("message of %d bytes", n)
			}
			if len(c.unread) >= n {
				message := c.unread[:n]
				c.unread = c.unread[n:]
				return message, nil
			}
		}
		// What is left of the last read moves to the front.
		have := copy(c.buf, c.unread)
		n, err := c.conn.Read(c.buf[have:])
		c.unread = c.buf[:have+n]
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// frameLen returns the length of a message of a stream, whose first four bytes are there.
func frameLen(head []byte) int {
	length := int(binary.BigEndian.Uint16(head[2:]))
	if stun.IsChannelData(head[0]) {
		return stun.ChannelDataHeaderLen + (length+3)&^3
	}
	return stun.HeaderLen + length
}

func attribute(m *stun.Message, wanted stun.AttrType) []byte {
	for typ, value := range m.Attributes() {
		if typ == wanted {
			return value
		}
	}
	return nil
}

func codeOf(m *stun.Message) stun.ErrorCode {
	if value := attribute(m, stun.AttrErrorCode); len(value) >= 4 {
		return stun.ErrorCode(int(value[2])*100 + int(value[3]))
	}
	return 0
}
