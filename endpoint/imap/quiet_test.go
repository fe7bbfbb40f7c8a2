package imap

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestQuietSides checks that a session continues, whatever it does, after other goroutines have waited for its two sides.
func TestQuietSides(t *testing.T) {
	listener := listenTCP(t)
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", listener)
	e, err := New(config, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	e.quietAfter = time.Nanosecond
	startEndpoint(t, e)
	serveScript(t, listener, func(w *wire) {
		fmt.Fprint(w.conn, "* OK [CAPABILITY IMAP4rev1 LITERAL+] upstream\r\n")
		for {
			line, err := w.r.ReadString('\n')
			if err != nil {
				return
			}
			tag, command, _ := strings.Cut(line, " ")
			if strings.HasPrefix(command, "LOGIN") {
				fmt.Fprintf(w.conn, "%s OK [CAPABILITY IMAP4rev1] done\r\n", tag)
				continue
			}
			fmt.Fprintf(w.conn, "* 1 FETCH (BODY[] {%d}\r\n%s)\r\n%s OK done\r\n", bufferSize, strings.Repeat("x", bufferSize), tag)
		}
	})

	w := newWire(t, dialTCP(t, e, 1))
	w.expect(`\* OK`)
	w.send("a STARTTLS\r\n")
	w.expect(`a OK`)
	w = newWire(t, tls.Client(w.conn, &tls.Config{InsecureSkipVerify: true}))
	commands := func() {
		for i := range 20 {
			w.send("c%d FETCH 1 BODY[]\r\n", i)
			w.until(fmt.Sprintf("c%d", i))
			w.send("d%d GETMETADATA \"\" /shared/comment\r\n", i)
			if got := w.until(fmt.Sprintf("d%d", i)); !strings.HasPrefix(got[0], `* METADATA "" (/shared/comment `) {
				t.Fatalf("GETMETADATA got %q", got)
			}
		}
	}
	w.send("b LOGIN alice wonderland\r\n")
	w.until("b")
	commands()
	w = w.compress()
	commands()

	go e.Shutdown(context.Background())
	w.expect(`\* BYE \[UNAVAILABLE\] Server is shutting down`)
}
