package imap

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap/upstream"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:4711")

// TestShutdown checks that idle sessions get BYE immediately, and one in the middle of a command after the answer.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		fresh := dialPipe(t, e, loopback, false)
		fresh.expect(`\* OK`)
		idling := dialPipe(t, e, loopback, false)
		idling.expect(`\* OK`)
		idling.login()
		idling.send("a SELECT INBOX\r\n")
		idling.until("a")
		idling.send("b IDLE\r\n")
		idling.expect(`\+`)
		busy := dialPipe(t, e, loopback, false)
		busy.expect(`\* OK`)
		busy.login()
		busy.send("a APPEND INBOX {10}\r\n")
		busy.expect(`\+`)
		busy.send("01234")
		synctest.Wait()

		done := make(chan error)
		go func() { done <- e.Shutdown(t.Context()) }()
		for _, w := range []*wire{fresh, idling} {
			w.expect(`\* BYE \[UNAVAILABLE\] Server is shutting down`)
			w.expectEnd()
		}
		time.Sleep(10 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("Shutdown did not wait for a command: %v", err)
		default:
		}
		late := dialPipe(t, e, loopback, false)
		late.expect(`\* BYE \[UNAVAILABLE\] Server is shutting down`)
		late.expectEnd()
		busy.send("56789\r\n")
		busy.expect(`a OK`)
		busy.expect(`\* BYE \[UNAVAILABLE\] Server is shutting down`)
		busy.expectEnd()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// TestShutdownDeadline checks that sessions that do not end in time are closed, wherever they wait, and that this is not an error,
// which service managers would report.
func TestShutdownDeadline(t *testing.T) {
	silent := listenTCP(t)
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", silent)
	upstreamEndpoint := start(t, config)
	beforeGreeting := newWire(t, dialTCP(t, upstreamEndpoint, 1))
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	e := start(t, testConfig(t))
	inLiteral := dialPlain(t, e)
	inLiteral.login()
	inLiteral.send("a APPEND INBOX {10}\r\n")
	inLiteral.expect(`\+`)
	inHandshake := newWire(t, dialTCP(t, e, 0))

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	inLiteral.expectEnd()
	inHandshake.expectEnd()

	if err := upstreamEndpoint.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown before the greeting: %v", err)
	}
	beforeGreeting.expect(`\* BYE \[UNAVAILABLE\]`)
	beforeGreeting.expectEnd()
	if _, err := net.Dial("tcp", e.Addrs()[0].String()); err == nil {
		t.Error("a port is still bound")
	}
}

// TestShutdownUpstream checks that with an upstream, an idle session gets BYE immediately, one in the middle of a FETCH response
// after that, and one with an unanswered command after the answer.
func TestShutdownUpstream(t *testing.T) {
	server := listenTCP(t)
	config := testConfig(t)
	config.Upstream = upstreamAt("tcp", server)
	config.Upstream.ClientAddress = upstream.ClientAddressProxy
	asked, finish := make(chan struct{}), make(chan struct{})
	e := startUpstream(t, server, *config.Upstream, func(w *wire) {
		w.readLine() // PROXY
		fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
		for {
			tag, command, _ := strings.Cut(strings.TrimSpace(w.readLine()), " ")
			switch command {
			case "IDLE":
				fmt.Fprint(w.conn, "+ idling\r\n")
			case "FETCH 1 BODY[]":
				fmt.Fprint(w.conn, "* 1 FETCH (BODY[] {10}\r\n01234")
				<-finish
				fmt.Fprintf(w.conn, "56789)\r\n%s OK done\r\n", tag)
			case "SEARCH ALL":
				close(asked)
				<-finish
				fmt.Fprintf(w.conn, "* SEARCH 1\r\n%s OK done\r\n", tag)
			default:
				return
			}
		}
	})
	session := func(command, answer string) *wire {
		w := newWire(t, dialTCP(t, e, 1))
		w.expect(`\* PREAUTH`)
		if command != "" {
			w.send("a %s\r\n", command)
		}
		if answer != "" {
			w.expect(answer)
		}
		return w
	}
	fetching := session("FETCH 1 BODY[]", `\* 1 FETCH`)
	if _, err := fetching.r.Discard(5); err != nil {
		t.Fatal(err)
	}
	searching := session("SEARCH ALL", "")
	idling := session("IDLE", `\+ idling`)
	fresh := session("", "")
	<-asked // of SEARCH, of which the client sees nothing yet

	done := make(chan error)
	go func() { done <- e.Shutdown(t.Context()) }()
	for _, w := range []*wire{idling, fresh} {
		w.expect(`\* BYE \[UNAVAILABLE\] Server is shutting down`)
		w.expectEnd()
	}
	select {
	case err := <-done:
		t.Fatalf("Shutdown did not wait for the commands: %v", err)
	default:
	}
	close(finish)
	if rest, err := fetching.r.ReadString(')'); rest != "56789)" {
		t.Errorf("the rest of the message is %q, %v", rest, err)
	}
	fetching.line()
	searching.expect(`\* SEARCH 1`)
	for _, w := range []*wire{fetching, searching} {
		w.expect(`a OK done`)
		w.expect(`\* BYE \[UNAVAILABLE\] Server is shutting down`)
		w.expectEnd()
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// TestShutdownDuringLogin checks that the delay of a refused login does not delay Shutdown.
func TestShutdownDuringLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		w := dialPipe(t, e, loopback, false)
		w.expect(`\* OK`)
		w.send("a LOGIN alice nonsense\r\n")
		synctest.Wait()
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		e.Shutdown(ctx)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("Shutdown took %v beyond its context", took)
		}
		io.Copy(io.Discard, w.r)
	})
}
