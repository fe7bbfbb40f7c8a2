package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A Proxy stands between a client and a Redis server, and does to the connection what networks do.
type Proxy struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	conns map[net.Conn]bool
	// What happens to what the server answers.
	delay  time.Duration
	garble func([]byte)
	cut    bool // connections are refused
}

// NewProxy passes connections from the listener to a server, until the test ends.
func NewProxy(t *testing.T, listener net.Listener, server string) *Proxy {
	t.Helper()
	p := &Proxy{listener: listener, server: server, conns: make(map[net.Conn]bool)}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepting.Go(func() { p.pass(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.Cut()
		accepting.Wait()
	})
	return p
}

// Addr returns the address of the proxy: HOST:PORT.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Delay makes each answer later.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Garble changes what the server sends, in pieces of any length.
func (p *Proxy) Garble(f func([]byte)) { p.set(func() { p.garble = f }) }

// Cut closes all connections, and the following ones at once.
func (p *Proxy) Cut() {
	p.set(func() {
		p.cut = true
		for conn := range p.conns {
			conn.Close()
		}
	})
}

// Mend ends what the other methods have begun.
func (p *Proxy) Mend() { p.set(func() { p.delay, p.garble, p.cut = 0, nil, false }) }

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// add registers the two halves of a connection, and reports false if there may be none.
func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.conns[conn] = true
	}
	return !p.cut
}

func (p *Proxy) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	defer p.set(func() { delete(p.conns, client); delete(p.conns, server) })
	if !p.add(client, server) {
		return
	}
	var requests sync.WaitGroup
	requests.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	})
	b := make([]byte, 32<<10)
	for {
		n, err := server.Read(b)
		p.mu.Lock()
		delay, garble := p.delay, p.garble
		p.mu.Unlock()
		time.Sleep(delay)
		if garble != nil {
			garble(b[:n])
		}
		if _, failed := client.Write(b[:n]); err != nil || failed != nil {
			break
		}
	}
	client.Close()
	requests.Wait()
}
