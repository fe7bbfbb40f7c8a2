package patient

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// patientPair returns a connection that is patient, and its other end.
func patientPair(t *testing.T) (c *Conn, theirs net.Conn) {
	t.Helper()
	ours, theirs := tcpPair(t)
	c = New(ours)
	c.BeginPatience()
	return c, theirs
}

// TestLobby checks what ends the wait of a connection in a lobby, and that no goroutine waits there.
func TestLobby(t *testing.T) {
	var l Lobby
	defer l.Close()
	for _, end := range []struct {
		name  string
		ahead bool // it happens before the wait
		do    func(c *Conn, theirs net.Conn)
	}{
		{"data", false, func(_ *Conn, theirs net.Conn) { io.WriteString(theirs, "x") }},
		{"data that is there already", true, func(_ *Conn, theirs net.Conn) { io.WriteString(theirs, "x") }},
		{"the end", false, func(_ *Conn, theirs net.Conn) { theirs.Close() }},
		{"a reset", false, func(_ *Conn, theirs net.Conn) { theirs.(*net.TCPConn).SetLinger(0); theirs.Close() }},
		{"a deadline", false, func(c *Conn, _ net.Conn) { c.SetReadDeadline(time.Unix(1, 0)) }},
		{"a deadline that has passed", true, func(c *Conn, _ net.Conn) { c.SetReadDeadline(time.Unix(1, 0)) }},
		{"Close", false, func(c *Conn, _ net.Conn) { c.Close() }},
		{"Close, before", true, func(c *Conn, _ net.Conn) { c.Close() }},
	} {
		t.Run(end.name, func(t *testing.T) {
			c, theirs := patientPair(t)
			for range 2 { // unless Read fails, the connection comes again
				roused := make(chan struct{})
				before := runtime.NumGoroutine()
				if end.ahead {
					end.do(c, theirs)
				}
				c.Rest(&l, func() { close(roused) })
				if !end.ahead {
					select {
					case <-roused:
						t.Fatal("roused before anything has happened")
					default:
					}
					if n := runtime.NumGoroutine(); n > before+1 { // that of the lobby
						t.Errorf("%d goroutines while the connection waits, %d before", n, before)
					}
					end.do(c, theirs)
				}
				<-roused
				switch _, err := c.Read(make([]byte, 1)); {
				case err == error(ErrNothingYet):
					t.Error("nothing to read")
				case err != nil:
					return
				}
			}
		})
	}

	// A descriptor is used again after Close: nobody waits in its place.
	c, _ := patientPair(t)
	c.Rest(&l, func() {})
	for range 50 {
		other, others := patientPair(t)
		roused := make(chan struct{})
		other.Rest(&l, func() { close(roused) })
		io.WriteString(others, "x")
		<-roused
		other.Close()
	}
	for _, waiting := range l.waiting {
		if waiting != nil && waiting != c {
			t.Error("a closed connection is still in the lobby")
		}
	}
	if c.rested == nil {
		t.Error("roused by another connection")
	}
}
