// Package deflate compresses and decompresses DEFLATE streams (RFC 1951) of connections that are silent most of the time, such as
// those of RFC 4978. A stream costs little memory between two messages, and neither direction does I/O.
//
// compress/flate, and every package with its interface, keeps 40 KB for a reader and 600 KB or more for a writer. After a read
// deadline, which wakes a goroutine that waits for a client, its reader also fails permanently.
package deflate

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/flate"
)

const (
	// maxHistory is how far compressed data may refer back beyond the current call. Without history, short messages become longer
	// instead of shorter; more history makes them hardly shorter and costs time in each call.
	maxHistory = 2 << 10
	// minHuffman is the minimum size of a message without repetitions, such as one in base64, for another attempt with only a
	// Huffman code.
	minHuffman = 512
)

// A Deflater compresses one stream. The zero value is ready to use. Between two calls it keeps the last 2 KiB of the stream.
type Deflater struct {
	history []byte
}

// huffmanWriters holds unused *flate.Writer of level HuffmanOnly.
var huffmanWriters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.HuffmanOnly)
	if err != nil {
		panic(err) // the level is valid
	}
	return w
}}

// Deflate appends p to out, compressed and flushed to a byte boundary by an empty block (RFC 1951 section 3.2.4), so that the
// other side can inflate all of it at once. What it appends is at most 64 bytes longer than a p of up to 16 KiB.
func (d *Deflater) Deflate(out *bytes.Buffer, p []byte) {
	start := out.Len()
	// Errors can only be those of out, which returns none.
	flate.StatelessDeflate(out, p, false, d.history)
	if len(p) >= minHuffman && out.Len()-start > len(p)-len(p)/16 {
		out.Truncate(start)
		w := huffmanWriters.Get().(*flate.Writer)
		w.Reset(out)
		w.Write(p)
		w.Flush()
		w.Reset(nil)
		huffmanWriters.Put(w)
	}
	d.remember(p)
}

// remember appends p to the history.
func (d *Deflater) remember(p []byte) {
	if len(p) > maxHistory {
		p = p[len(p)-maxHistory:]
	}
	if over := len(d.history) + len(p) - maxHistory; over > 0 {
		d.history = append(d.history[:0], d.history[over:]...)
	}
	d.history = append(d.history, p...)
}
