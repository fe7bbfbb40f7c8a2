package turnclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/pionturn"
	"github.com/mailturn/mailturn/turnsrv/pionturn/pionturntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// patience is the time limit for what should happen immediately.
const patience = 20 * time.Second

// startServer runs pion's server on loopback, over UDP and TCP on free ports.
func startServer(t *testing.T) (udp, tcp string) {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := pionturntest.New(t, pionturn.Quotas{})
	go server.ServePacket(packets)
	go server.ServeStream(listener)
	return packets.LocalAddr().String(), listener.Addr().String()
}

func dial(t *testing.T, network, address string, config Config) *Client {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	config.Conn, config.Stream = conn, network == "tcp"
	c := New(config)
	t.Cleanup(func() { c.Close() })
	return c
}

func allocate(t *testing.T, c *Client) Allocation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	challenge, err := c.Challenge(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if challenge.Realm != "example.org" || challenge.RequestBytes != 28 || challenge.ResponseBytes < 28 {
		t.Errorf("got the challenge %+v", challenge)
	}
	allocation, err := c.Allocate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if allocation.Mapped != c.LocalAddr() || allocation.Lifetime != 10*time.Minute || !allocation.Relayed.IsValid() {
		t.Errorf("got the allocation %+v of %v", allocation, c.LocalAddr())
	}
	return allocation
}

// TestTwoClients sends between two allocations of one server, on a channel and in indications.
func TestTwoClients(t *testing.T) {
	udp, tcp := startServer(t)
	for network, address := range map[string]string{"udp": udp, "tcp": tcp} {
		t.Run(network, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			received := make(chan Data, 10)
			config := Config{Username: "alice", Password: "wonderland"}
			caller := dial(t, network, address, config)
			called := dial(t, network, address, config)
			called.Handle(func(d Data) {
				d.Payload = append([]byte(nil), d.Payload...)
				received <- d
			})
			if binding, err := caller.Bind(ctx); err != nil || binding.Mapped != caller.LocalAddr() {
				t.Errorf("got the binding %+v, %v", binding, err)
			}
			from, to := allocate(t, caller), allocate(t, called)
			if err := called.CreatePermission(ctx, from.Relayed.Addr()); err != nil {
				t.Fatal(err)
			}
			if err := caller.ChannelBind(ctx, stun.MinChannel, to.Relayed); err != nil {
				t.Fatal(err)
			}
			next := func(want string) Data {
				t.Helper()
				select {
				case d := <-received:
					if string(d.Payload) != want {
						t.Errorf("got %q, want %q", d.Payload, want)
					}
					return d
				case <-ctx.Done():
					t.Fatalf("%q did not come", want)
				}
				return Data{}
			}
			caller.SendChannel(stun.MinChannel, []byte("hello"))
			if d := next("hello"); d.Peer != from.Relayed || d.Channel != 0 {
				t.Errorf("got %+v, want it from %v in an indication", d, from.Relayed)
			}
			if err := called.ChannelBind(ctx, stun.MinChannel+1, from.Relayed); err != nil {
				t.Fatal(err)
			}
			caller.Send(to.Relayed, []byte("again"))
			if d := next("again"); d.Channel != stun.MinChannel+1 {
				t.Errorf("got %+v, want it on the channel", d)
			}
			if lifetime, err := caller.Refresh(ctx, 0); err != nil || lifetime != 0 {
				t.Errorf("ending the allocation: %v, %v", lifetime, err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	udp, _ := startServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := dial(t, "udp", udp, Config{Username: "alice", Password: "looking-glass"})
	if _, err := c.Challenge(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Allocate(ctx); Code(err) != stun.CodeBadRequest { // pion's answer to a wrong password
		t.Errorf("a wrong password: got %v", err)
	}
}

// TestSilence checks that a request ends with the context, and with the connection.
func TestSilence(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := dial(t, "udp", silent.LocalAddr().String(), Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	if binding, err := c.Bind(ctx); !errors.Is(err, ErrNoAnswer) || binding.Sent != 2 {
		t.Errorf("got %v after %d transmissions, want none after two", err, binding.Sent)
	}
}

// TestStreamBounds tries servers that do not speak STUN.
func TestStreamBounds(t *testing.T) {
	for _, tt := range []struct {
		name string
		sent string
	}{
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n"},
		{"a long message", "\x01\x01\xff\xfc"},
		{"top bits", "\x80\x00\x00\x00"},
		{"the end", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := net.Pipe()
			c := New(Config{Conn: client, Stream: true})
			defer c.Close()
			go func() {
				buf := make([]byte, 100)
				server.Read(buf)
				server.Write([]byte(tt.sent))
				server.Close()
			}()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := c.Bind(ctx); err == nil || errors.Is(err, ErrNoAnswer) {
				t.Errorf("got %v, want an error immediately", err)
			}
		})
	}
}

// TestRefusedDatagram checks the ICMP error of a port on which nothing listens.
func TestRefusedDatagram(t *testing.T) {
	closed, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	c := dial(t, "udp", closed.LocalAddr().String(), Config{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Bind(ctx); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v, want a refusal", err)
	}
}

// TestEchoServer tries a server that sends everything back, which is not an answer.
func TestEchoServer(t *testing.T) {
	echo, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		buf := make([]byte, maxMessage)
		for {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			echo.WriteTo(buf[:n], from)
		}
	}()
	c := dial(t, "udp", echo.LocalAddr().String(), Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Challenge(ctx); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v, want no answer", err)
	}
}

// TestServerThatDoesNotRead fills a stream's buffers, and checks that nothing waits forever.
func TestServerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		c := New(Config{Conn: client, Stream: true})
		defer c.Close()
		if err := c.SendChannel(stun.MinChannel, []byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a timeout", err)
		}
	})
}

// FuzzStream is a server that sends anything over TCP: the length of messages is bounded, and reading ends.
func FuzzStream(f *testing.F) {
	var b stun.Builder
	b.Start(stun.MethodBinding, stun.ClassSuccess, stun.TransactionID{1})
	b.Text(stun.AttrRealm, "example.org")
	f.Add(append([]byte(nil), b.Bytes()...))
	b.ChannelData(stun.MinChannel, []byte("x"))
	f.Add(append([]byte(nil), b.Bytes()...))
	f.Add([]byte("\x01\x01\xff\xfc"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		in := bytes.NewReader(sent)
		c := &Client{conn: stream{in}, stream: true, waiting: make(map[stun.TransactionID]chan<- []byte)}
		buf := make([]byte, maxMessage)
		for before := in.Len(); ; before = in.Len() {
			message, err := c.next(buf)
			if err != nil {
				return
			}
			if len(message) == 0 || before-in.Len() != len(message) {
				t.Fatalf("a message of %d bytes out of %d", len(message), before-in.Len())
			}
			c.dispatch(message)
		}
	})
}

// stream is a connection that can only be read.
type stream struct{ *bytes.Reader }

func (stream) Write([]byte) (int, error)        { return 0, io.ErrClosedPipe }
func (stream) Close() error                     { return nil }
func (stream) LocalAddr() net.Addr              { return nil }
func (stream) RemoteAddr() net.Addr             { return nil }
func (stream) SetDeadline(time.Time) error      { return nil }
func (stream) SetReadDeadline(time.Time) error  { return nil }
func (stream) SetWriteDeadline(time.Time) error { return nil }

// FuzzDispatch dispatches any message that a server may send.
func FuzzDispatch(f *testing.F) {
	var b stun.Builder
	b.Start(stun.MethodData, stun.ClassIndication, stun.TransactionID{1})
	b.XORAddress(stun.AttrXORPeerAddress, netip.MustParseAddrPort("203.0.113.7:9"))
	b.Attr(stun.AttrData, []byte("x"))
	f.Add(append([]byte(nil), b.Bytes()...))
	b.ChannelData(stun.MinChannel, []byte("x"))
	f.Add(append([]byte(nil), b.Bytes()...))
	f.Fuzz(func(t *testing.T, message []byte) {
		c := &Client{waiting: make(map[stun.TransactionID]chan<- []byte)}
		c.Handle(func(d Data) {
			if len(d.Payload) > len(message) {
				t.Errorf("%d bytes out of %d", len(d.Payload), len(message))
			}
		})
		c.dispatch(message)
		if m, err := stun.Parse(message); err == nil {
			a := answer{message: m, raw: message}
			_ = a.refusal()
			_ = a.lifetime()
		}
	})
}
