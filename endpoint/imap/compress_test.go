package imap

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A deflateConn is the client's end of a compressed connection, by another implementation.
type deflateConn struct {
	net.Conn
	r io.Reader
	w *flate.Writer
}

func newDeflateConn(conn net.Conn, r *bufio.Reader) *deflateConn {
	w, err := flate.NewWriter(conn, flate.DefaultCompression)
	if err != nil {
		panic(err) // the level is valid
	}
	return &deflateConn{conn, flate.NewReader(r), w}
}

func (c *deflateConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *deflateConn) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err == nil {
		err = c.w.Flush()
	}
	return n, err
}

// deflated returns text as the beginning of a compressed stream.
func deflated(text string) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.DefaultCompression)
	if err != nil {
		panic(err) // the level is valid
	}
	io.WriteString(w, text)
	w.Flush()
	return b.Bytes()
}

// compress starts compression.
func (w *wire) compress() *wire {
	w.t.Helper()
	w.send("compress COMPRESS DEFLATE\r\n")
	w.expect("compress OK DEFLATE active")
	return w.compressed()
}

func (w *wire) compressed() *wire {
	conn := newDeflateConn(w.conn, w.r)
	return &wire{w.t, conn, bufio.NewReader(conn)}
}

// expectLastBlock expects the end of the compressed stream and of the connection.
func (w *wire) expectLastBlock() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.r); len(rest) > 0 || err != nil {
		w.t.Fatalf("got %q and %v, want the end of the compressed stream", rest, err)
	}
}

// slowConn writes one byte at a time.
type slowConn struct{ net.Conn }

func (c slowConn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		_, err = c.Conn.Write(p[n : n+1])
		n++
	}
	return n, err
}

// TestCompress is a session of Delta Chat with compression: GETMETADATA and IDLE.
func TestCompress(t *testing.T) {
	e := start(t, testConfig(t))
	for _, tt := range []struct {
		name string
		dial func(t *testing.T) *wire
	}{
		{"TLS", func(t *testing.T) *wire { return dialTLS(t, e) }},
		{"TLS 1.2", func(t *testing.T) *wire {
			config := clientTLS(t, e)
			config.MaxVersion = tls.VersionTLS12
			w := newWire(t, tls.Client(dialTCP(t, e, 0), config))
			w.expect(`\* OK `)
			return w
		}},
		{"STARTTLS", func(t *testing.T) *wire {
			w := dialPlain(t, e)
			w.send("a STARTTLS\r\n")
			w.expect(`a OK`)
			return newWire(t, tls.Client(w.conn, clientTLS(t, e)))
		}},
		{"plain", func(t *testing.T) *wire { return dialPlain(t, e) }},
		{"a byte at a time", func(t *testing.T) *wire {
			w := dialPlain(t, e)
			w.conn = slowConn{w.conn}
			return w
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.dial(t)
			w.send("a COMPRESS DEFLATE\r\n")
			w.expect("a BAD Log in first")
			w.send("login LOGIN alice wonderland\r\n")
			if line := w.expect(`login OK `); strings.Count(line, " COMPRESS=DEFLATE") != 1 {
				t.Errorf("login got %q, want COMPRESS=DEFLATE", line)
			}
			w.send("b COMPRESS LZ4\r\n")
			w.expect("b NO")
			w = w.compress()
			w.send("c CAPABILITY\r\n")
			if line := w.expect(`\* CAPABILITY .*METADATA`); strings.Contains(line, "COMPRESS") {
				t.Errorf("COMPRESS is announced while it is active: %q", line)
			}
			w.expect("c OK")
			w.send("d COMPRESS DEFLATE\r\n")
			w.expect(`d NO \[COMPRESSIONACTIVE\]`)
			w.send("e GETMETADATA \"\" (/shared/comment {30+}\r\n/shared/vendor/deltachat/turns)\r\n")
			w.expect(`\* METADATA "" \(/shared/comment "a test" /shared/vendor/deltachat/turns "turn.example.org:5349:`)
			w.expect("e OK")
			w.send("f SELECT INBOX\r\n")
			w.until("f")
			w.send("g IDLE\r\n")
			w.expect(`\+`)
			other := dialPlain(t, e)
			other.login()
			other.send("a APPEND INBOX {2+}\r\nhi\r\n")
			other.expect("a OK")
			w.expect(`\* \d+ EXISTS`)
			w.send("DONE\r\n")
			w.expect("g OK")
			w.send("h LOGOUT\r\n")
			w.expect(`\* BYE`)
			w.expect("h OK")
			w.expectLastBlock()
		})
	}
}

func TestCompressOff(t *testing.T) {
	config := testConfig(t)
	config.Compress = false
	w := dialPlain(t, start(t, config))
	w.send("login LOGIN alice wonderland\r\n")
	if line := w.expect(`login OK `); strings.Contains(line, "COMPRESS") {
		t.Errorf("login got %q", line)
	}
	w.send("a COMPRESS DEFLATE\r\n")
	w.expect("a NO COMPRESS is not available")
	w.send("b NOOP\r\n")
	w.expect("b OK")
}

// TestCompressContent transfers 20 MB in each direction.
func TestCompressContent(t *testing.T) {
	const (
		size     = 20 << 20
		patience = 2 * time.Minute // the race detector makes compression slow
	)
	message := make([]byte, size)
	rand.NewChaCha8([32]byte{2}).Read(message)
	base64.StdEncoding.Encode(message[size/2:], message[:size/4])            // an attachment
	copy(message[3*size/4:], strings.Repeat("x OK text.\r\n* BYE ", size/4)) // and what compresses well
	listener := listenTCP(t)
	e := startUpstream(t, listener, *upstreamAt("tcp", listener), func(w *wire) {
		w.conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(w.conn, "* PREAUTH [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n")
		stored := make([]byte, size)
		for {
			line := w.readLine()
			tag, rest, _ := strings.Cut(line, " ")
			switch {
			case strings.HasPrefix(rest, "APPEND"):
				clear(stored)
				fmt.Fprint(w.conn, "+ go\r\n")
				io.ReadFull(w.r, stored)
				w.readLine()
				fmt.Fprintf(w.conn, "%s OK %x\r\n", tag, sha256.Sum256(stored))
			case strings.HasPrefix(rest, "FETCH"):
				fmt.Fprintf(w.conn, "* 1 FETCH (BODY[] {%d}\r\n%s)\r\n%s OK done\r\n", size, stored, tag)
			default:
				return
			}
		}
	})
	w := newWire(t, tls.Client(dialTCP(t, e, 0), clientTLS(t, e)))
	w.conn.SetDeadline(time.Now().Add(patience))
	w.expect(`\* PREAUTH`)
	w = w.compress()
	w.send("a APPEND INBOX {%d+}\r\n%s\r\n", size, message)
	w.expect(fmt.Sprintf("a OK %x", sha256.Sum256(message)))
	w.send("c FETCH 1 BODY[]\r\n")
	w.expect(regexp.QuoteMeta(fmt.Sprintf("* 1 FETCH (BODY[] {%d}", size)))
	got := make([]byte, size)
	if _, err := io.ReadFull(w.r, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, message) {
		t.Error("message came back changed")
	}
	w.expect(`\)`)
	w.expect("c OK")
}

// TestCompressHalfClose checks that commands compressed before the client closed its side reach the upstream, and the answers the
// client.
func TestCompressHalfClose(t *testing.T) {
	listener := listenTCP(t)
	e := startUpstream(t, listener, *upstreamAt("tcp", listener), func(w *wire) {
		fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
		commands, err := io.ReadAll(w.r) // until the half close
		fmt.Fprintf(w.conn, "* OK got %q %v\r\na OK done\r\n", commands, err)
	})
	for _, tt := range []struct {
		name string
		end  func(w *wire)
	}{
		{"connection", func(w *wire) { w.conn.(*deflateConn).Conn.(*net.TCPConn).CloseWrite() }},
		{"compressed stream", func(w *wire) { w.conn.(*deflateConn).w.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t, dialTCP(t, e, 1))
			w.expect(`\* PREAUTH`)
			w = w.compress()
			w.send("a NOOP\r\n")
			tt.end(w)
			w.expect(`\* OK got "a NOOP\\r\\n" <nil>`)
			w.expect(`a OK done`)
			w.expectLastBlock()
		})
	}
}

// TestUnauthenticateEndsCompression checks that the OK to UNAUTHENTICATE is the last compressed response, and UNAUTHENTICATE the
// last compressed command (RFC 8437 section 4.1), over TLS too. The next login may compress again.
func TestUnauthenticateEndsCompression(t *testing.T) {
	listener := listenTCP(t)
	e := startUpstream(t, listener, *upstreamAt("tcp", listener), func(w *wire) {
		fmt.Fprint(w.conn, "* OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE] ready\r\n")
		for range 9 {
			tag, command, _ := strings.Cut(w.readLine(), " ")
			if strings.HasPrefix(command, "CAPABILITY") {
				fmt.Fprint(w.conn, "* CAPABILITY IMAP4rev1\r\n")
			}
			fmt.Fprintf(w.conn, "%s OK [CAPABILITY IMAP4rev1] done\r\n", tag)
		}
	})
	for name, dial := range map[string]func(t *testing.T) *wire{
		"plain": func(t *testing.T) *wire { return newWire(t, dialTCP(t, e, 1)) },
		"TLS":   func(t *testing.T) *wire { return newWire(t, tls.Client(dialTCP(t, e, 0), clientTLS(t, e))) },
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t)
			w.expect(`\* OK`)
			for _, pipelined := range []bool{false, true} {
				w.send("a LOGIN alice wonderland\r\n")
				w.expect(`a OK .*COMPRESS=DEFLATE`)
				compressed := w.compress()
				compressed.send("b UNAUTHENTICATE\r\n")
				if pipelined {
					w.send("c CAPABILITY\r\n")
				}
				compressed.expect(`b OK`)
				if !pipelined {
					w.send("c CAPABILITY\r\n")
				}
				w.expect(`\* CAPABILITY IMAP4rev1`)
				w.expect(`c OK`)
			}
			w.send("d LOGIN bob builder\r\n")
			w.expect(`d OK .*COMPRESS=DEFLATE`)
			w = w.compress()
			w.send("e UNAUTHENTICATE\r\nf NOOP\r\n")
			w.expect(`e OK`)
			w.expect(`\* BYE Compression has ended`)
		})
	}
}

// TestCompressCorrupt checks that data that is not a DEFLATE stream ends the session.
func TestCompressCorrupt(t *testing.T) {
	e := start(t, testConfig(t))
	for _, tt := range []struct {
		name  string
		input string
	}{
		{"in the same packet", "compress COMPRESS DEFLATE\r\nx NOOP\r\n"},
		{"in the next", "compress COMPRESS DEFLATE\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dialTLS(t, e)
			w.login()
			w.send("%s", tt.input)
			w.expect("compress OK")
			raw := w.conn
			w = w.compressed()
			if strings.HasSuffix(tt.input, "DEFLATE\r\n") {
				raw.Write(deflated("x NOOP\r\n"))
				w.expect("x OK")
				raw.Write([]byte{0x07}) // a block of the reserved type
			}
			w.expect(`\* BYE Invalid compressed data`)
			w.expectLastBlock()
		})
	}
}

// TestCompressBomb checks that data that inflates to much more costs no memory.
func TestCompressBomb(t *testing.T) {
	const size = 2 << 20
	listener := listenTCP(t)
	e := startUpstream(t, listener, *upstreamAt("tcp", listener), func(w *wire) {
		fmt.Fprint(w.conn, "* PREAUTH ready\r\n")
		w.readLine()
		fmt.Fprint(w.conn, "+ go\r\n")
		n, _ := io.CopyN(io.Discard, w.r, size)
		w.readLine()
		fmt.Fprintf(w.conn, "a OK %d\r\n", n)
		w.readLine()
	})
	w := newWire(t, dialTCP(t, e, 1))
	w.expect(`\* PREAUTH`)
	raw := w.conn
	w = w.compress()
	bomb := deflated(fmt.Sprintf("a APPEND INBOX {%d+}\r\n%s\r\n", size, make([]byte, size)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := raw.Write(bomb); err != nil {
		t.Fatal(err)
	}
	w.expect(fmt.Sprintf("a OK %d", size))
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > size/2 {
		t.Errorf("inflating %d bytes to %d allocated %d", len(bomb), size, allocated)
	}
}

// TestCompressShutdown checks that BYE is the last compressed response, and that a session that is woken in the middle of a block
// continues there.
func TestCompressShutdown(t *testing.T) {
	e := start(t, testConfig(t))
	idling := dialTLS(t, e)
	idling.login()
	idling = idling.compress()
	idling.send("a SELECT INBOX\r\n")
	idling.until("a")
	idling.send("b IDLE\r\n")
	idling.expect(`\+`)

	busy := dialTLS(t, e)
	busy.login()
	raw := busy.conn
	busy.send("compress COMPRESS DEFLATE\r\n")
	busy.expect("compress OK")
	busy = busy.compressed()
	command := deflated("a APPEND INBOX {10+}\r\n0123456789\r\n")
	raw.Write(command[:len(command)/2])
	// The bytes after a command that is answered have been read with it.
	pipelined := dialTLS(t, e)
	pipelined.login()
	pipelined.send("compress COMPRESS DEFLATE\r\n%s", append(deflated("a NOOP\r\n"), command[:len(command)/2]...))
	pipelined.expect("compress OK")
	raw2 := pipelined.conn
	pipelined = pipelined.compressed()
	pipelined.expect("a OK")

	done := make(chan error)
	go func() { done <- e.Shutdown(context.Background()) }()
	idling.expect(`\* BYE \[UNAVAILABLE\] Server is shutting down`)
	idling.expectLastBlock()
	for conn, w := range map[net.Conn]*wire{raw: busy, raw2: pipelined} {
		conn.Write(command[len(command)/2:])
		w.expect("a OK")
		w.expect(`\* BYE \[UNAVAILABLE\] Server is shutting down`)
		w.expectLastBlock()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestCompressIdleTimeout checks that empty blocks do not restart the idle timeout.
func TestCompressIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := dialPipe(t, startPipes(t, testConfig(t)), loopback, false)
		w.expect(`\* OK`)
		w.login()
		begin := time.Now()
		raw := w.conn
		w = w.compress()
		var writing sync.WaitGroup
		defer writing.Wait()
		defer raw.Close()
		writing.Go(func() {
			for err := error(nil); err == nil; time.Sleep(time.Minute) {
				_, err = raw.Write(deflated(""))
			}
		})
		w.expect(`\* BYE Autologout`)
		if took := time.Since(begin); took != 31*time.Minute {
			t.Errorf("idle connection ended after %v, want 31m", took)
		}
	})
}

// FuzzCompress sends commands before and after COMPRESS, in chunks of random size, and checks that the answers are those of a
// session without compression: uncompressed to commands before COMPRESS, compressed to the others.
func FuzzCompress(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed)
	}
	config := testConfig(f)
	config.Listen = nil
	e := start(f, config)
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		tag := 0
		commands := func(letter string) string {
			var b strings.Builder
			for range random.IntN(6) {
				tag++
				fmt.Fprintf(&b, "%s%d %s\r\n", letter, tag, []string{
					"NOOP", "LIST \"\" *", "IDLE\r\nDONE", "XYZ {3+}\r\nabc", "FETCH 1 BODY[]", "ENABLE METADATA",
					"GETMETADATA \"\" (/shared/comment {13+}\r\n/shared/admin)", "GETMETADATA {0}\r\n /shared/comment",
					"SETMETADATA \"\" (/shared/comment {100000+}\r\n" + strings.Repeat("x", 100000) + ")",
				}[random.IntN(9)])
			}
			return b.String()
		}
		before, after := "login LOGIN bob builder\r\n"+commands("b"), commands("a")+"end LOGOUT\r\n"

		w := dialPipe(t, e, loopback, false)
		w.conn.SetDeadline(time.Now().Add(20 * time.Second))
		go io.WriteString(w.conn, before+after)
		want, err := io.ReadAll(w.r)
		if err != nil {
			t.Fatal(err)
		}
		w = dialPipe(t, e, loopback, false)
		w.conn.SetDeadline(time.Now().Add(20 * time.Second))
		go func(conn net.Conn, input []byte) {
			for len(input) > 0 {
				n := min(len(input), 1+random.IntN(1<<random.IntN(14)))
				if _, err := conn.Write(input[:n]); err != nil {
					return
				}
				input = input[n:]
			}
		}(w.conn, append([]byte(before+"compress COMPRESS DEFLATE\r\n"), deflated(after)...))
		clear := strings.Join(w.until("compress"), "\r\n")
		clear, ok := strings.CutSuffix(clear, "compress OK DEFLATE active")
		if !ok {
			t.Fatalf("got %q", clear)
		}
		got, err := io.ReadAll(flate.NewReader(w.r))
		if err != nil {
			t.Fatalf("compressed stream ends in %v", err)
		}
		if got := clear + string(got); sorted(got) != sorted(string(want)) { // GETMETADATA may overtake others
			t.Errorf("with compression:\n%s\nwithout:\n%s", got, want)
		}
		if strings.Contains(clear, "\r\na") || strings.Contains(string(got), "\r\nb") {
			t.Errorf("compression starts in the wrong place: uncompressed:\n%s\ncompressed:\n%s", clear, got)
		}
	})
}

func sorted(text string) string {
	lines := strings.Split(text, "\r\n")
	slices.Sort(lines)
	return strings.Join(lines, "\r\n")
}

// BenchmarkIdle measures the memory (live heap and stacks) of another connection that is logged in and idle, including both ends of
// its socket and the embedded server's share.
func BenchmarkIdle(b *testing.B) {
	const connections = 100
	inUse := func() uint64 {
		for range 10 { // stacks shrink by half at each
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	for _, compressed := range []bool{false, true} {
		b.Run(fmt.Sprintf("compressed=%v", compressed), func(b *testing.B) {
			for b.Loop() {
				config := testConfig(b)
				config.MaxConnections = connections
				e := start(b, config)
				before := inUse()
				conns := make([]net.Conn, connections)
				for i := range conns {
					conns[i] = dialTCP(b, e, 1)
					conns[i].SetDeadline(time.Now().Add(20 * time.Second))
					w := &wire{b, conns[i], bufio.NewReader(conns[i])}
					w.expect(`\* OK`)
					w.login()
					if compressed {
						w.send("a COMPRESS DEFLATE\r\n")
						w.expect("a OK")
						w = w.compressed()
					}
					w.send("b GETMETADATA \"\" /shared/comment\r\n")
					w.until("b")
				}
				b.ReportMetric(float64(inUse()-before)/connections, "B/conn")
				for _, conn := range conns {
					conn.Close()
				}
			}
		})
	}
}
