package imap

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// testCertificate returns a new certificate for imap.example.org, and its files.
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

// TestUpstreamStartTLS checks that the client's bytes reach the server only inside TLS, and that capabilities sent in the clear are
// forgotten.
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

// TestUpstreamStartTLSRefused checks that a failure of TLS ends the session before the client has received or sent anything.
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
		{"response injected after the answer", pair.Cert, func(w *wire) {
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
