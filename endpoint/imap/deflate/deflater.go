// Package deflate compresses and decompresses DEFLATE streams (RFC 1951) that belong to connections which are silent most
// of the time, as those of RFC 4978 are. What a stream costs between two messages is small, and neither side does I/O: bytes
// go in, bytes come out.
//
// compress/flate, and each package that has its interface, keeps 40 KB for a reader and from 600 KB up for a writer. Its
// reader also fails for good when the connection that it reads has a deadline, by which a goroutine that waits for a client
// is woken.
package deflate

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/flate"
)

const (
	// maxHistory is how far what is compressed may refer back beyond the present call. Without any, short messages get
	// longer instead of shorter; more makes them hardly shorter and costs time in each call.
	maxHistory = 2 << 10
	// minHuffman is the size from which on a message in which nothing is repeated, such as one in base64, is worth another try
	// with a Huffman code alone.
	minHuffman = 512
)

// A Deflater compresses one stream. The zero value is ready. Between two calls it keeps the last 2 KiB of the stream.
type Deflater struct {
	history []byte
}

// huffmanWriters are *flate.Writer, of level HuffmanOnly, between their uses.
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
	// Errors are those of out, which has none.
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
