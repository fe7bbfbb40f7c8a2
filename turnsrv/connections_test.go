package turnsrv

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestConnectionsComeAndGo opens 10,000 connections over TCP and TLS and drops them, with and without a part of a message, while a call
// goes on. Afterwards none is left, and a client over TCP is served.
func TestConnectionsComeAndGo(t *testing.T) {
	const connections, at = 10_000, 16
	c, server := udpClient(t, testConfig(t))
	c.allocate()
	half := c.message(stun.MethodAllocate, stun.ClassRequest, turntest.TransportUDP)[:10]
	var clients sync.WaitGroup
	for first := range at {
		clients.Go(func() {
			for i := first; i < connections; i += at {
				to := server.tcp
				if i%8 == 0 { // fewer, because each takes a goroutine for its handshake
					to = server.tls
				}
				conn, err := net.Dial("tcp", to.String())
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				if i%3 > 0 {
					_, _ = conn.Write(half[:i%len(half)])
				}
				if i%4 > 0 {
					_ = conn.(*net.TCPConn).SetLinger(0) // the server gets RST, and no port of the client stays in use
				}
				_ = conn.Close()
			}
		})
	}
	dropped := make(chan struct{})
	go func() {
		clients.Wait()
		close(dropped)
	}()
	for refreshed := 0; ; refreshed++ {
		c.want(c.request(stun.MethodRefresh), 0)
		select {
		case <-dropped:
		case <-time.After(10 * time.Millisecond):
			continue
		}
		break
	}
	late := dial(t, "tcp", server.tcp)
	late.allocate()
	for deadline := time.Now().Add(patience()); server.Counters().Streams > 1; {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", server.Counters().Streams)
		}
		time.Sleep(time.Millisecond)
	}
	late.want(late.request(stun.MethodRefresh), 0)
}
