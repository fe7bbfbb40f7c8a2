package control

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes, which have no buffer.
type pipes struct {
	net.Listener
	conns chan net.Conn
}

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error {
	close(p.conns)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// get sends a request over a new connection.
func (p pipes) get(t *testing.T) net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Error(err)
	}
	return client
}

// serveGate serves a list of the given size behind a Gate, and counts the lists.
func serveGate(t *testing.T, size int, made *atomic.Int32) pipes {
	listener := pipes{conns: make(chan net.Conn)}
	server := &http.Server{Handler: NewGate().Handler(func(http.ResponseWriter, *http.Request) (any, error) {
		made.Add(1)
		return message{strings.Repeat("a", size)}, nil
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return listener
}

// TestUnreadLists has more clients than a Gate admits, which do not read: there are never more lists than places, no client keeps its
// place, and those that wait too long are told to try again.
func TestUnreadLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int32
		listener := serveGate(t, 8<<20, &made)
		var clients []net.Conn
		for range 3 * gatePlaces {
			clients = append(clients, listener.get(t))
		}
		want := func(after time.Duration, lists int32) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := made.Load(); got != lists {
				t.Errorf("%d lists were made, want %d", got, lists)
			}
		}
		want(progressTimeout-1, gatePlaces)
		want(1, 2*gatePlaces)
		want(gateTimeout-progressTimeout, 2*gatePlaces)
		refused := 0
		for _, client := range clients {
			response, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil {
				continue // it was cut
			}
			if text, _ := io.ReadAll(response.Body); response.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(text), "try again") {
				refused++
			}
		}
		if refused != gatePlaces {
			t.Errorf("%d clients are told to try again, want %d", refused, gatePlaces)
		}
		time.Sleep(2 * progressTimeout)
		response, err := http.ReadResponse(bufio.NewReader(listener.get(t)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK || len(text) < 8<<20 {
			t.Errorf("after they have left: status %d, %d bytes, %v, want a list", response.StatusCode, len(text), err)
		}
	})
}

// TestSlowReader wants a client that reads slowly to get a list, unless it is very long.
func TestSlowReader(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pieces int
		whole  bool
	}{{"long", 10, true}, {"very long", 100, false}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var made atomic.Int32
				client := serveGate(t, tt.pieces*pieceSize, &made).get(t)
				start := time.Now()
				response, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Fatal(err)
				}
				for read := 0; err == nil; read++ {
					time.Sleep(progressTimeout - time.Second)
					_, err = io.CopyN(io.Discard, response.Body, pieceSize)
				}
				if whole := err == io.EOF; whole != tt.whole {
					t.Errorf("got the whole list: %v, want %v: %v", whole, tt.whole, err)
				}
				if took := time.Since(start); took > readLimit+2*progressTimeout {
					t.Errorf("reading it took %v", took)
				}
			})
		})
	}
}

// TestEncode wants characters that control a terminal to be escaped, and to be the same after decoding.
func TestEncode(t *testing.T) {
	const text = "a b\x00\x1b[31m\x7f\u009b2J\u202e\u2028\U000e0001<é€😀>"
	got, err := Encode(message{text}, "")
	if want := `{"text":"a b\u0000\u001b[31m\u007f\u009b2J\u202e\u2028\udb40\udc01<é€😀>"}` + "\n"; err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	var back message
	if err := json.Unmarshal(got, &back); err != nil || back.Text != text {
		t.Errorf("it decodes to %q, %v", back.Text, err)
	}
	if got, err := Encode(message{"a"}, "  "); err != nil || string(got) != "{\n  \"text\": \"a\"\n}\n" {
		t.Errorf("indented: got %q, %v", got, err)
	}
}

// FuzzEncode wants each string to decode to itself, and nothing in it to control a terminal.
func FuzzEncode(f *testing.F) {
	for _, seed := range []string{"alice@example.org", "\u009b", "\U000e0001", "\xff\x1b", `\u0000`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		encoded, err := Encode(message{text}, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range strings.TrimSuffix(string(encoded), "\n") {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Errorf("%q: encoded as %q", text, encoded)
			}
		}
		var back message
		if err := json.Unmarshal(encoded, &back); err != nil || back.Text != strings.ToValidUTF8(text, "\ufffd") && !strings.Contains(back.Text, "\ufffd") {
			t.Errorf("%q: decoded as %q, %v", text, back.Text, err)
		}
	})
}
