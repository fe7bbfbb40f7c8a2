package imap

import (
	"bytes"
	"compress/flate"
	"crypto/tls"
	"fmt"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
)

// maxSessionMemory is the figure in docs/speed.md for one connection.
const maxSessionMemory = 500 << 10

// TestSessionMemory makes one session hold as much memory as possible: a client over TLS and compression sends more than the
// backend answers and does not read, and the backend sends more than the client reads.
func TestSessionMemory(t *testing.T) {
	const (
		command     = "%0100d NOOP\r\n"
		commandsLen = 1023 * (100 + len(" NOOP\r\n"))
	)
	synctest.Test(t, func(t *testing.T) {
		responses := fmt.Appendf(nil, "* METADATA \"\" (/shared/x {%d}\r\n%0*d)\r\n* 1 FETCH (BODY[] {%d}\r\n%0*d",
			60000, 60000, 0, bufferSize, bufferSize, 0)
		speak := make(chan struct{})
		e := startPipes(t, testConfig(t))
		e.present.backend.Close()
		e.present.backend = scriptBackend{t, func(w *wire) {
			fmt.Fprint(w.conn, "* PREAUTH [CAPABILITY IMAP4rev1 METADATA] ready\r\n")
			io.CopyN(io.Discard, w.conn, int64(commandsLen)) // but not the last one
			<-speak
			w.conn.Write(responses[:smallBufferSize]) // after which the session reads large pieces
			w.conn.Write(responses[smallBufferSize:])
		}}
		conn := tls.Client(dialPipe(t, e, outside, true).conn, clientTLS(t, e))
		w := &wire{t, conn, newReader(conn)}
		w.expect(`\* PREAUTH`)
		w.send("a COMPRESS DEFLATE\r\n")
		w.expect("a OK")

		var commands bytes.Buffer
		for i := range 1023 { // and one more
			fmt.Fprintf(&commands, command, i)
		}
		commands.WriteString("x SETMETADATA \"\" (/private/a {0+}\r\n")
		for commands.Len() < commandsLen+60<<10 {
			commands.WriteString(" {10+}\r\n/private/a {0+}\r\n")
		}
		commands.WriteString(")\r\n")
		for range 8000 {
			commands.WriteString("y NOOP\r\n")
		}
		var compressed bytes.Buffer
		deflater, err := flate.NewWriter(&compressed, flate.NoCompression) // so that the reads are large
		if err != nil {
			t.Fatal(err)
		}
		deflater.Write(commands.Bytes())
		deflater.Flush()
		synctest.Wait()
		before := heap()
		go w.conn.Write(compressed.Bytes())
		synctest.Wait()
		close(speak)
		synctest.Wait()
		held := heap() - before
		t.Logf("the session holds %d KiB more than before", held>>10)
		runtime.KeepAlive([]any{&commands, &compressed, deflater, responses}) // which are not the session's
		if held > maxSessionMemory {
			t.Errorf("want %d KiB at most", maxSessionMemory>>10)
		}
	})
}

// heap returns how much memory is in use that a collection does not free.
func heap() int64 {
	runtime.GC()
	runtime.GC() // pools keep things for one
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
