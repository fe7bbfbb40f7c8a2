package imap

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/mailturn/mailturn/endpoint/imap/upstream"
)

// toldTLS reads the PROXY header and returns the client's version of TLS according to it, or "" for none.
func (w *wire) toldTLS() string {
	header, err := proxyproto.Read(w.r)
	if err != nil {
		w.t.Errorf("PROXY header: %v", err)
		return ""
	}
	tlvs, err := header.TLVs()
	if err != nil {
		w.t.Error(err)
	}
	ssl, _ := tlvparse.FindSSL(tlvs)
	version, _ := ssl.SSLVersion()
	return version
}

// startTLS sends STARTTLS and does the handshake.
func (w *wire) startTLS(e *Endpoint) *wire {
	w.t.Helper()
	w.send("s STARTTLS\r\n")
	w.expect(`s OK`)
	conn := tls.Client(w.conn, clientTLS(w.t, e))
	if err := conn.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	return newWire(w.t, conn)
}

// redialConfig returns the configuration of an endpoint whose server follows scripts, one for each connection.
func redialConfig(t *testing.T, scripts ...script) Config {
	listener := listenTCP(t)
	next := make(chan script, len(scripts))
	for _, s := range scripts {
		next <- s
	}
	serveScript(t, listener, func(w *wire) {
		select {
		case s := <-next:
			s(w)
		default:
			t.Error("there is one connection too many")
		}
	})
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", listener)
	config.Upstream.ClientAddress = upstream.ClientAddressProxy2
	return config
}

// TestProxyHeaderTellsTLS checks that a server that accepts passwords only over TLS is told that the client uses it: immediately
// with implicit TLS, and after STARTTLS on a second connection, unseen by the client. For a client without TLS, the header does not
// claim it.
func TestProxyHeaderTellsTLS(t *testing.T) {
	login := func(want string) script {
		return func(w *wire) {
			if got := w.toldTLS(); got != want {
				w.t.Errorf("the server was told %q, want %q", got, want)
			}
			fmt.Fprint(w.conn, "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] upstream "+want+"\r\n* OK and more\r\n")
			if got := w.readLine(); strings.HasPrefix(got, "l LOGIN") {
				fmt.Fprint(w.conn, "l OK done\r\n")
				w.readLine()
			} else if got != io.EOF.Error() {
				w.t.Errorf("the server got %q", got)
			}
		}
	}
	checkLogin := func(t *testing.T, w *wire) {
		t.Helper()
		w.expect(`\* OK and more`)
		w.send("l LOGIN alice wonderland\r\n")
		w.expect(`l OK `)
		w.conn.Close()
	}
	t.Run("implicit TLS", func(t *testing.T) {
		w := dialTLS(t, start(t, redialConfig(t, login("TLSv1.3"))))
		checkLogin(t, w)
	})
	t.Run("STARTTLS", func(t *testing.T) {
		e := start(t, redialConfig(t, login(""), login("TLSv1.3")))
		w := newWire(t, dialTCP(t, e, 1))
		w.expect(`\* OK .*upstream `)
		w.expect(`\* OK and more`)
		w = w.startTLS(e)
		checkLogin(t, w)
		waitFor(t, e, func() bool { return e.connections == 0 })
	})
	t.Run("no TLS", func(t *testing.T) {
		w := newWire(t, dialTCP(t, start(t, redialConfig(t, login(""))), 1))
		w.expect(`\* OK .*upstream `)
		checkLogin(t, w)
	})
}

// TestRedialRefused checks that the client receives the server's refusal of the second connection through TLS.
func TestRedialRefused(t *testing.T) {
	greets := func(greeting string) script {
		return func(w *wire) {
			w.toldTLS()
			io.WriteString(w.conn, greeting)
			w.readLine()
		}
	}
	const ready = "* OK upstream\r\n"
	for _, tt := range []struct {
		name   string
		second script
		want   string
	}{
		{"BYE", greets("* BYE [ALERT] not you\r\n"), `\* BYE \[ALERT\] not you`},
		{"PREAUTH", greets("* PREAUTH welcome\r\n"), `\* BYE \[UNAVAILABLE\]`},
		{"no IMAP", greets("220 mail\r\n"), `\* BYE \[UNAVAILABLE\]`},
		{"closed", reset, `\* BYE \[UNAVAILABLE\]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, redialConfig(t, greets(ready), tt.second))
			w := newWire(t, dialTCP(t, e, 1))
			w.expect(`\* OK upstream`)
			w = w.startTLS(e)
			w.expect(tt.want)
			w.expectEnd()
			waitFor(t, e, func() bool { return e.connections == 0 && len(e.unauthenticated) == 0 })
		})
	}
}

// TestRedialGivenUp checks that neither the login timeout nor Shutdown waits for the second connection.
func TestRedialGivenUp(t *testing.T) {
	for _, how := range []string{"login_timeout", "shutdown"} {
		t.Run(how, func(t *testing.T) {
			silent := make(chan struct{})
			config := redialConfig(t, func(w *wire) {
				w.toldTLS()
				io.WriteString(w.conn, "* OK upstream\r\n")
				w.readLine()
			}, func(w *wire) {
				w.toldTLS()
				close(silent)
				w.readLine()
			})
			config.Upstream.ConnectTimeout = time.Hour
			config.LoginTimeout = time.Hour
			want := `\* BYE \[UNAVAILABLE\] Server is shutting down`
			if how == "login_timeout" {
				config.LoginTimeout = 2 * time.Second
				want = `\* BYE \[UNAVAILABLE\] Mail server cannot be reached`
			}
			e := start(t, config)
			w := newWire(t, dialTCP(t, e, 1))
			w.expect(`\* OK upstream`)
			w = w.startTLS(e)
			select {
			case <-silent:
			case <-time.After(10 * time.Second):
				t.Fatal("the server is not dialled again")
			}
			if how == "shutdown" {
				if err := e.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			}
			w.expect(want)
			w.expectEnd()
		})
	}
}
