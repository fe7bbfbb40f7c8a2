package imap

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
	"github.com/mailturn/mailturn/endpoint/imap/origin"
	"github.com/mailturn/mailturn/endpoint/imap/patient"
	"github.com/mailturn/mailturn/endpoint/imap/pipe"
	"github.com/mailturn/mailturn/endpoint/imap/upstream"
	"github.com/mailturn/mailturn/framework/certs"
)

// A script is a test's mail server: it sends and expects lines on one connection.
type script func(w *wire)

// startUpstream runs the script for each connection to listener, and an endpoint with it as upstream.
func startUpstream(t *testing.T, listener net.Listener, server upstream.Config, s script) *Endpoint {
	t.Helper()
	serveScript(t, listener, s)
	config := testConfig(t)
	config.Upstream = &server
	return start(t, config)
}

// upstreamAt returns the configuration for the server at listener.
func upstreamAt(scheme string, listeners ...net.Listener) *upstream.Config {
	u := &upstream.Config{ConnectTimeout: 10 * time.Second}
	for _, listener := range listeners {
		u.Addresses = append(u.Addresses, upstream.Address{Scheme: scheme, Address: listener.Addr().String()})
	}
	return u
}

// readLine is for scripts, whose goroutines may not end the test.
func (w *wire) readLine() string {
	line, err := w.r.ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return line
}

// loginScript greets, accepts a login, and ends.
func loginScript(w *wire) {
	fmt.Fprint(w.conn, "* OK [CAPABILITY IMAP4rev1 LITERAL+] upstream\r\n")
	w.readLine()
	fmt.Fprint(w.conn, "login OK [CAPABILITY IMAP4rev1 LITERAL+ XCHATMAIL] done\r\n")
	w.readLine()
	fmt.Fprint(w.conn, "* BYE goodbye\r\nb OK done\r\n")
}

func checkUpstream(t *testing.T, e *Endpoint) {
	t.Helper()
	w := newWire(t, dialTCP(t, e, 1))
	w.expect(`\* OK \[CAPABILITY IMAP4rev1 .*\] upstream`)
	w.send("login LOGIN alice wonderland\r\n")
	w.expect(`login OK \[CAPABILITY IMAP4rev1 LITERAL\+ XCHATMAIL METADATA COMPRESS=DEFLATE\] done`)
	w.send("b LOGOUT\r\n")
	w.expect(`\* BYE goodbye`)
	w.expect(`b OK done`)
	w.expectEnd()
}

func TestUpstreamSchemes(t *testing.T) {
	t.Run("tcp", func(t *testing.T) {
		listener := listenTCP(t)
		checkUpstream(t, startUpstream(t, listener, *upstreamAt("tcp", listener), loginScript))
	})
	t.Run("unix", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "imap")
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		checkUpstream(t, startUpstream(t, listener, *upstreamAt("unix", listener), loginScript))
	})
	pair, _, err := certs.SelfSigned(t.TempDir(), []string{"imap.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := certs.ReadPair(pair)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, serverName, caFile string
		ok                       bool
	}{
		{"tls", "imap.example.org", pair.Cert, true},
		{"tls with another name", "other.example.org", pair.Cert, false},
		{"tls signed by a stranger", "imap.example.org", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listener := tls.NewListener(listenTCP(t), &tls.Config{Certificates: []tls.Certificate{*certificate}})
			upstream := *upstreamAt("tls", listener)
			upstream.CAFile, upstream.ServerName = tt.caFile, tt.serverName
			e := startUpstream(t, listener, upstream,
				func(w *wire) {
					if tt.ok {
						loginScript(w)
					} else {
						io.Copy(io.Discard, w.conn) // the handshake
					}
				})
			if tt.ok {
				checkUpstream(t, e)
				return
			}
			w := newWire(t, dialTCP(t, e, 1))
			w.expect(`\* BYE \[UNAVAILABLE\] Mail server cannot be reached`)
			w.expectEnd()
		})
	}
}

// TestUpstreamResumption checks that a connection to an encrypted server resumes the TLS session of the previous one (RFC 8446
// section 2.2), which spares both sides the certificate.
func TestUpstreamResumption(t *testing.T) {
	pair, _, err := certs.SelfSigned(t.TempDir(), []string{"imap.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := certs.ReadPair(pair)
	if err != nil {
		t.Fatal(err)
	}
	listener := listenTCP(t)
	upstream := *upstreamAt("tls", listener)
	upstream.CAFile, upstream.ServerName = pair.Cert, "imap.example.org"
	config := &tls.Config{Certificates: []tls.Certificate{*certificate}}
	resumed := make(chan bool, 3)
	e := startUpstream(t, listener, upstream, func(w *wire) {
		conn := tls.Server(w.conn, config)
		if conn.Handshake() == nil {
			resumed <- conn.ConnectionState().DidResume
		}
		loginScript(&wire{w.t, conn, newReader(conn)})
	})
	for i := range 3 {
		checkUpstream(t, e)
		if got := <-resumed; got != (i > 0) {
			t.Errorf("session %d: resumed is %v", i+1, got)
		}
	}
}

func TestUpstreamBroken(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) {
		config := testConfig(t)
		config.Upstream = &upstream.Config{
			Addresses:      []upstream.Address{{Scheme: "unix", Address: filepath.Join(t.TempDir(), "nobody")}},
			ConnectTimeout: 10 * time.Second,
		}
		e := start(t, config)
		for _, w := range []*wire{newWire(t, dialTCP(t, e, 1)), newWire(t, tls.Client(dialTCP(t, e, 0), clientTLS(t, e)))} {
			w.expect(`\* BYE \[UNAVAILABLE\] Mail server cannot be reached`)
			w.expectEnd()
		}
	})
	t.Run("closes before the greeting", func(t *testing.T) {
		listener := listenTCP(t)
		e := startUpstream(t, listener, *upstreamAt("tcp", listener), func(*wire) {})
		w := newWire(t, dialTCP(t, e, 1))
		w.expect(`\* BYE \[UNAVAILABLE\] Mail server cannot be reached`)
		w.expectEnd()
	})
	t.Run("says BYE instead of a greeting", func(t *testing.T) {
		listener := listenTCP(t)
		e := startUpstream(t, listener, *upstreamAt("tcp", listener), func(w *wire) {
			fmt.Fprint(w.conn, "* BYE too many users\r\n")
		})
		w := newWire(t, dialTCP(t, e, 1))
		w.expect(`\* BYE too many users`)
		w.expectEnd()
	})
	t.Run("ends in the middle of a literal", func(t *testing.T) {
		listener := listenTCP(t)
		e := startUpstream(t, listener, *upstreamAt("tcp", listener), func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "* 1 FETCH (BODY[] {100}\r\nhalf")
		})
		w := newWire(t, dialTCP(t, e, 1))
		w.expect(`\* PREAUTH ready`)
		w.send("a FETCH 1 BODY[]\r\n")
		w.expect(`\* 1 FETCH`)
		if rest, _ := io.ReadAll(w.r); string(rest) != "half" {
			t.Errorf("rest is %q, want what the server sent and nothing else", rest)
		}
	})
}

// TestUpstreamMisbehaves checks that whatever a server does, the session ends soon, with a BYE where the client can read one.
func TestUpstreamMisbehaves(t *testing.T) {
	const unavailable = "* BYE [UNAVAILABLE] Mail server cannot be reached: try again later\r\n"
	for _, tt := range []struct {
		name string
		s    script
		want string // what the client reads up to the end
	}{
		{"says nothing", func(w *wire) { w.readLine() }, unavailable},
		{"greets a byte at a time", func(w *wire) {
			for {
				if _, err := fmt.Fprint(w.conn, "*"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond) // this tests slowness
			}
		}, unavailable},
		{"greets without end", func(w *wire) {
			for {
				if _, err := fmt.Fprint(w.conn, strings.Repeat("* OK ", 1000)); err != nil {
					return
				}
			}
		}, unavailable},
		{"is a web server", func(w *wire) { fmt.Fprint(w.conn, "HTTP/1.1 400 Bad Request\r\n\r\n") }, unavailable},
		{"resets before the greeting", reset, unavailable},
		{"resets in the greeting", func(w *wire) {
			fmt.Fprint(w.conn, "* OK [CAPABI")
			reset(w)
		}, unavailable},
		{"resets in the middle of a literal", func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "* 1 FETCH (BODY[] {100}\r\nhalf")
			w.readLine() // the client has got that
			reset(w)
		}, "* PREAUTH ready\r\n* 1 FETCH (BODY[] {100}\r\nhalf"},
		{"sends more than it announced", func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "* 1 FETCH (BODY[] {4}\r\nfour and more {9}\r\n)\r\na OK done\r\n")
			w.readLine()
		}, "* PREAUTH ready\r\n* 1 FETCH (BODY[] {4}\r\nfour and more {9}\r\n)\r\na OK done\r\n"},
		{"sends less than it announced", func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "* 1 FETCH (BODY[] {1000}\r\nshort)\r\na OK done\r\n")
			w.readLine()
		}, "* PREAUTH ready\r\n* 1 FETCH (BODY[] {1000}\r\nshort)\r\na OK done\r\n"},
		{"announces a literal beyond 64 bits", func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "* 1 FETCH (BODY[] {99999999999999999999999}\r\nx)\r\na OK [CAPABILITY IMAP4rev1] done\r\n")
			w.readLine()
		}, "* PREAUTH ready\r\n* 1 FETCH (BODY[] {99999999999999999999999}\r\nx)\r\na OK [CAPABILITY IMAP4rev1] done\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listener := listenTCP(t)
			upstream := upstreamAt("tcp", listener)
			upstream.ConnectTimeout = time.Second
			w := newWire(t, dialTCP(t, startUpstream(t, listener, *upstream, tt.s), 1))
			w.send("a FETCH 1 BODY[]\r\n")
			var got strings.Builder
			if strings.HasPrefix(tt.want, "* PREAUTH") {
				for got.Len() < len(tt.want) {
					b, err := w.r.ReadByte()
					if err != nil {
						t.Fatalf("got %q and %v, want %q", &got, err, tt.want)
					}
					got.WriteByte(b)
				}
				w.send("b NOOP\r\n") // which makes the server continue
			}
			rest, err := io.ReadAll(w.r)
			if err != nil && isTimeout(err) {
				t.Fatal("the session does not end")
			}
			if got.Write(rest); got.String() != tt.want {
				t.Errorf("client read %q, want %q", &got, tt.want)
			}
		})
	}
}

// reset is a script that resets its TCP connection.
func reset(w *wire) {
	w.conn.(*net.TCPConn).SetLinger(0)
	w.conn.Close()
}

// A scriptBackend is a server over a pipe, for fake time.
type scriptBackend struct {
	t *testing.T
	s script
}

func (b scriptBackend) Dial(context.Context, origin.Origin) (backend.Conn, error) {
	ours, theirs := pipe.New(&net.TCPAddr{})
	go func() {
		defer theirs.Close()
		b.s(&wire{b.t, theirs, newReader(theirs)})
	}()
	return ours, nil
}

func (scriptBackend) Health() error  { return nil }
func (scriptBackend) String() string { return "script" }
func (scriptBackend) Close()         {}

// TestUpstreamDoesNotTakeTheCommand checks that a server that neither requests what the client sends next nor refuses it ends the
// session after patient.StallTimeout, with a BYE, whatever else it sends meanwhile. Dovecot 2.3 treats the first of these so.
func TestUpstreamDoesNotTakeTheCommand(t *testing.T) {
	for _, command := range []string{
		"a APPEND INBOX NONSENSE {5+}\r\nhello\r\nb NOOP\r\n",
		"a APPEND INBOX NONSENSE {5}\r\n",
		"a SETMETADATA \"\" (/private/x {5+}\r\nhello)\r\n",
		"a SETMETADATA \"\" (/private/x {100000}\r\n",
		"a IDLE\r\nDONE\r\n",
	} {
		t.Run(command[:len("a SETMETADATA")], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := startPipes(t, testConfig(t))
				e.present.backend.Close()
				e.present.backend = scriptBackend{t, func(w *wire) {
					fmt.Fprint(w.conn, "* PREAUTH [CAPABILITY IMAP4rev1 METADATA] ready\r\n")
					w.readLine()
					for i := range 60 {
						time.Sleep(time.Minute)
						if _, err := fmt.Fprintf(w.conn, "* %d EXISTS\r\n", i); err != nil {
							return
						}
					}
				}}
				w := dialPipe(t, e, netip.MustParseAddrPort("127.0.0.1:1"), false)
				w.expect(`\* PREAUTH`)
				begin := time.Now()
				w.send("%s", command)
				all, err := io.ReadAll(w.r)
				if took := time.Since(begin); took != patient.StallTimeout || err != nil {
					t.Errorf("the session ended after %v (%v), want %v", took, err, patient.StallTimeout)
				}
				if !strings.HasSuffix(string(all), "* BYE [UNAVAILABLE] Mail server does not accept the command\r\n") {
					t.Errorf("got %q, want BYE", all)
				}
				time.Sleep(2 * time.Minute) // until the server notices
			})
		})
	}
}

// TestUpstreamStalls checks that a server that announces a literal and does not send it keeps the session until the idle timeout,
// and not longer. The client is in the middle of the literal and cannot be told anything.
func TestUpstreamStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		e.present.backend.Close()
		e.present.backend = scriptBackend{t, func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "* 1 FETCH (BODY[] {100}\r\nhalf")
			io.Copy(io.Discard, w.r)
		}}
		w := dialPipe(t, e, outside, false)
		w.expect(`\* PREAUTH`)
		w.send("a FETCH 1 BODY[]\r\n")
		w.expect(`\* 1 FETCH`)
		begin := time.Now()
		if rest, _ := io.ReadAll(w.r); string(rest) != "half" {
			t.Errorf("client read %q after the announcement, want what the server sent and nothing else", rest)
		}
		if took := time.Since(begin); took != 31*time.Minute {
			t.Errorf("session ended after %v, want 31m", took)
		}
	})
}

// TestHalfClose checks that a client that has half-closed its connection still gets the answers, and that the upstream sees the
// half-close.
func TestHalfClose(t *testing.T) {
	listener := listenTCP(t)
	e := startUpstream(t, listener, *upstreamAt("tcp", listener), func(w *wire) {
		fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
		commands, err := io.ReadAll(w.r) // until the half close
		fmt.Fprintf(w.conn, "* OK got %q %v\r\na OK done\r\n", commands, err)
	})
	w := newWire(t, dialTCP(t, e, 1))
	w.expect(`\* PREAUTH`)
	w.send("a NOOP\r\n")
	w.conn.(*net.TCPConn).CloseWrite()
	w.expect(`\* OK got "a NOOP\\r\\n" <nil>`)
	w.expect(`a OK done`)
	w.expectEnd()

	// The same with the embedded server.
	embedded := dialPlain(t, start(t, testConfig(t)))
	embedded.send("a NOOP\r\nb CAPABILITY\r\n")
	embedded.conn.(*net.TCPConn).CloseWrite()
	embedded.expect(`a OK`)
	embedded.until("b")
	embedded.expectEnd()
}
