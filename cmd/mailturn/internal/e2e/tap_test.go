package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A relay passes connections on to a server and records the bytes of each in both directions.
type relay struct {
	listener net.Listener
	server   string
	wrong    wrongness // done to what the server says, after it is recorded
	done     sync.WaitGroup

	mu       sync.Mutex // guards what follows
	recorded []*recording
	open     []net.Conn
}

// A recording is what went through one connection.
type recording struct {
	mu                     sync.Mutex // guards the buffers
	fromClient, fromServer bytes.Buffer
}

// startRelay listens until the test ends.
func startRelay(t *testing.T, server string, wrong wrongness) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, server: server, wrong: wrong}
	r.done.Go(r.accept)
	t.Cleanup(func() {
		listener.Close()
		r.mu.Lock()
		for _, conn := range r.open {
			conn.Close()
		}
		r.mu.Unlock()
		r.done.Wait()
	})
	return r
}

func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := dialPlain(r.server)()
		if err != nil {
			client.Close()
			continue
		}
		rec := &recording{}
		r.mu.Lock()
		r.recorded = append(r.recorded, rec)
		r.open = append(r.open, client, server)
		r.mu.Unlock()
		var alter func([]byte) []byte
		if r.wrong != nil {
			alter = r.wrong()
		}
		r.done.Go(func() { rec.copy(&rec.fromClient, server, client, nil) })
		r.done.Go(func() { rec.copy(&rec.fromServer, client, server, alter) })
	}
}

// copy passes one direction on until its end.
func (rec *recording) copy(record *bytes.Buffer, to, from net.Conn, alter func([]byte) []byte) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		rec.mu.Lock()
		record.Write(buf[:n])
		rec.mu.Unlock()
		p := buf[:n]
		if alter != nil && n > 0 {
			p = alter(p)
		}
		if _, writeErr := to.Write(p); err != nil || writeErr != nil {
			to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// last returns what went through the connection that was accepted last: what the client sent, and the responses.
func (r *relay) last(t *testing.T) (sent string, transcript []string) {
	t.Helper()
	r.mu.Lock()
	rec := r.recorded[len(r.recorded)-1]
	r.mu.Unlock()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	reader := bufio.NewReader(bytes.NewReader(rec.fromServer.Bytes()))
	for {
		response, err := readResponse(reader)
		if response != "" {
			transcript = append(transcript, response)
		}
		if errors.Is(err, io.EOF) {
			return rec.fromClient.String(), transcript
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A wrongness makes, for one connection, what a wrong proxy does to each piece that it reads from the server.
type wrongness func() func(p []byte) []byte

// wrongProxies are the faults of which the comparisons of this package have to notice every one. Protocol tests of clients
// pass through all of them.
var wrongProxies = []struct {
	name  string
	wrong wrongness
	// dovecot says that the fault is in what Dovecot alone says.
	dovecot bool
}{
	{"rewrites capabilities by text", func() func([]byte) []byte {
		return func(p []byte) []byte { return bytes.ReplaceAll(p, []byte(" AUTH=PLAIN"), nil) }
	}, true},
	{"injects at a read's boundary", func() func([]byte) []byte {
		injected := false
		return func(p []byte) []byte {
			if injected || len(p) < 200 {
				return p
			}
			injected = true
			return append(slices.Clone(p), "* METADATA \"\" (/shared/comment \"x\")\r\n"...)
		}
	}, false},
	{"drops a byte", func() func([]byte) []byte {
		passed := 0
		return func(p []byte) []byte {
			if passed += len(p); passed < 2000 || passed-len(p) >= 2000 {
				return p
			}
			return p[:len(p)-1]
		}
	}, false},
	{"flips a bit in a literal", func() func([]byte) []byte {
		flipped := false
		return func(p []byte) []byte {
			i := bytes.Index(p, []byte("From: <a"))
			if flipped || i < 0 {
				return p
			}
			flipped = true
			p[i+2] ^= 1
			return p
		}
	}, false},
	{"edits a literal", func() func([]byte) []byte {
		return func(p []byte) []byte { return bytes.ReplaceAll(p, []byte("example.org>"), []byte("example.com>")) }
	}, false},
	{"swallows a continuation request", func() func([]byte) []byte {
		swallowed := false
		return func(p []byte) []byte {
			if i := bytes.Index(p, []byte("+ OK\r\n")); i >= 0 && !swallowed {
				swallowed = true
				return slices.Delete(slices.Clone(p), i, i+len("+ OK\r\n"))
			}
			return p
		}
	}, true},
	{"says too little of the capabilities", func() func([]byte) []byte {
		return func(p []byte) []byte { return bytes.Replace(p, []byte(" XCHATMAIL"), nil, 1) }
	}, true},
	{"changes the case of a response", func() func([]byte) []byte {
		return func(p []byte) []byte { return []byte(strings.Replace(string(p), " OK ", " Ok ", 1)) }
	}, false},
}
