package imap

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

func TestReadGreeting(t *testing.T) {
	for _, tt := range []struct {
		name, said      string
		greeting, ahead string // of those that are accepted
		err             string
	}{
		{"OK", "* OK ready\r\n", "* OK ready\r\n", "", ""},
		{"small letters, bare LF", "* ok ready\n", "* ok ready\n", "", ""},
		{"more behind it", "* PREAUTH in\r\n* 5 EXISTS\r\n", "* PREAUTH in\r\n", "* 5 EXISTS\r\n", ""},
		{"BYE", "* BYE [UNAVAILABLE] later\r\n", "", "", `greeted with BYE "[UNAVAILABLE] later"`},
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", "", "", `not an IMAP greeting: "HTTP/1.1 400 Bad Request\r\n"`},
		{"POP3", "+OK ready\r\n", "", "", `not an IMAP greeting: "+OK ready\r\n"`},
		{"SMTP", "220 mail.example.org ESMTP\r\n", "", "", "not an IMAP greeting"},
		{"TLS alert", "\x15\x03\x03\x00\x02\x02\x46\n", "", "", "not an IMAP greeting"},
		{"tagged", "a OK ready\r\n", "", "", "not an IMAP greeting"},
		{"data", "* CAPABILITY IMAP4rev1\r\n", "", "", "not an IMAP greeting"},
		{"end", "", "", "", "greeting: unexpected EOF"},
		{"end in the middle", "* OK re", "", "", "greeting: unexpected EOF"},
		{"no end", "* OK " + strings.Repeat("x", 1<<20), "", "", "greeting: line is longer than 8192 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			greeting, ahead, err := readGreeting(strings.NewReader(tt.said))
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("got %q and %v, want the error %s", greeting, err, tt.err)
				}
				return
			}
			if err != nil || string(greeting) != tt.greeting || string(ahead) != tt.ahead {
				t.Errorf("got %q, %q, %v, want %q and %q", greeting, ahead, err, tt.greeting, tt.ahead)
			}
			greeting, _, err = readGreeting(iotest.OneByteReader(strings.NewReader(tt.said)))
			if err != nil || string(greeting) != tt.greeting {
				t.Errorf("byte by byte: got %q, %v, want %q", greeting, err, tt.greeting)
			}
		})
	}
}

func TestWithoutCapabilities(t *testing.T) {
	for greeting, want := range map[string]string{
		"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] Dovecot ready.\r\n": "* OK Dovecot ready.\r\n",
		"* ok [capability IMAP4rev1]\r\n":                                       "* OK Ready\r\n",
		"* OK Cyrus [x]\r\n":                                                    "* OK Cyrus [x]\r\n",
		"* OK [ALERT] disk is full\r\n":                                         "* OK [ALERT] disk is full\r\n",
		"* OK [CAPABILITYX] a\r\n":                                              "* OK [CAPABILITYX] a\r\n",
		"* OK [CAPABILITY never closed\r\n":                                     "* OK [CAPABILITY never closed\r\n",
	} {
		if got := string(withoutCapabilities([]byte(greeting))); got != want {
			t.Errorf("%q: got %q, want %q", greeting, got, want)
		}
	}
}

// testCertificate is a new certificate for imap.example.org, and its files.
func testCertificate(t *testing.T) (tls.Certificate, certs.Pair) {
	t.Helper()
	pair, _, err := certs.SelfSigned(t.TempDir(), []string{"imap.example.org"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := certs.ReadPair(pair)
	if err != nil {
		t.Fatal(err)
	}
	return *certificate, pair
}

// TestUpstreamStartTLS: the client's bytes reach the server inside TLS only, and the capabilities of the clear are forgotten.
func TestUpstreamStartTLS(t *testing.T) {
	certificate, pair := testCertificate(t)
	listener := listenTCP(t)
	upstream := upstreamAt("starttls", listener)
	upstream.CAFile, upstream.ServerName = pair.Cert, "imap.example.org"
	clear := make(chan string, 1)
	e := startUpstream(t, listener, *upstream, func(w *wire) {
		fmt.Fprint(w.conn, "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED XCLEAR] upstream\r\n* OK still here\r\n")
		clear <- w.readLine()
		fmt.Fprint(w.conn, "* OK begin soon\r\nmailturn OK begin\r\n")
		encrypted := tls.Server(w.conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
		w = &wire{w.t, encrypted, newReader(encrypted)}
		w.readLine()
		fmt.Fprint(encrypted, "* CAPABILITY IMAP4rev1 XTLS\r\na OK done\r\n")
		w.readLine()
		fmt.Fprint(encrypted, "b OK [CAPABILITY IMAP4rev1 XTLS] done\r\n")
	})
	w := newWire(t, dialTCP(t, e, 1))
	if greeting := w.line(); greeting != "* OK upstream" {
		t.Errorf("greeting is %q, want it without the capabilities that were said in the clear", greeting)
	}
	w.send("a CAPABILITY\r\n")
	if line := w.expect(`\* CAPABILITY IMAP4rev1 XTLS`); strings.Contains(line, "XCLEAR") {
		t.Errorf("capabilities are %q", line)
	}
	w.expect(`a OK`)
	w.send("b LOGIN alice wonderland\r\n")
	w.expect(`b OK \[CAPABILITY IMAP4rev1 XTLS METADATA COMPRESS=DEFLATE\] done`)
	w.expectEnd()
	if command := <-clear; command != "mailturn STARTTLS\r\n" {
		t.Errorf("in the clear the server was sent %q", command)
	}
}

// TestUpstreamStartTLSRefused: what comes in the way of TLS ends the session before the client has been told or has sent
// anything.
func TestUpstreamStartTLSRefused(t *testing.T) {
	certificate, pair := testCertificate(t)
	_, stranger := testCertificate(t)
	for _, tt := range []struct {
		name   string
		caFile string
		s      script
	}{
		{"PREAUTH", pair.Cert, func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH welcome\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "mailturn OK begin\r\n")
			encrypted := tls.Server(w.conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
			encrypted.Handshake()
		}},
		{"refused", pair.Cert, func(w *wire) {
			fmt.Fprint(w.conn, "* OK ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "mailturn BAD what?\r\n")
		}},
		{"BYE", pair.Cert, func(w *wire) {
			fmt.Fprint(w.conn, "* OK ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "* BYE no\r\n")
		}},
		{"an answer to somebody else", pair.Cert, func(w *wire) {
			fmt.Fprint(w.conn, "* OK ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "x OK begin\r\n")
		}},
		{"lines without end", pair.Cert, func(w *wire) {
			fmt.Fprint(w.conn, "* OK ready\r\n")
			w.readLine()
			for range 1000 {
				fmt.Fprint(w.conn, "* OK wait\r\n")
			}
		}},
		{"response injected behind the answer", pair.Cert, func(w *wire) {
			fmt.Fprint(w.conn, "* OK ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "mailturn OK begin\r\n* OK [CAPABILITY IMAP4rev1 XEVIL] injected\r\n")
			encrypted := tls.Server(w.conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
			encrypted.Handshake()
		}},
		{"no TLS", pair.Cert, func(w *wire) {
			fmt.Fprint(w.conn, "* OK ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "mailturn OK begin\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "* OK who needs TLS\r\n")
		}},
		{"another's certificate", stranger.Cert, func(w *wire) {
			fmt.Fprint(w.conn, "* OK ready\r\n")
			w.readLine()
			fmt.Fprint(w.conn, "mailturn OK begin\r\n")
			encrypted := tls.Server(w.conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
			encrypted.Handshake()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listener := listenTCP(t)
			upstream := upstreamAt("starttls", listener)
			upstream.CAFile, upstream.ServerName = tt.caFile, "imap.example.org"
			e := startUpstream(t, listener, *upstream, func(w *wire) {
				tt.s(w)
				if rest, _ := io.ReadAll(w.r); strings.Contains(string(rest), "wonderland") {
					t.Errorf("the password went in the clear: %q", rest)
				}
			})
			w := newWire(t, dialTCP(t, e, 1))
			w.send("a LOGIN alice wonderland\r\n")
			w.expect(`\* BYE \[UNAVAILABLE\] Mail server cannot be reached`)
			w.expectEnd()
		})
	}
}

// TestUpstreamByName: without tls_server_name, the certificate has to be for the host of the address.
func TestUpstreamByName(t *testing.T) {
	u, err := newUpstream(Upstream{Addresses: []UpstreamAddress{
		{"tls", "imap.example.org:993"}, {"starttls", "[2001:db8::1]:143"}, {"tcp", "127.0.0.1:143"},
	}}, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"imap.example.org", "2001:db8::1"} {
		if got := u.servers[i].tls.ServerName; got != want {
			t.Errorf("%v: name is %q, want %q", u.servers[i].address, got, want)
		}
	}
	if u.servers[2].tls != nil {
		t.Error("tcp:// has TLS")
	}
}
