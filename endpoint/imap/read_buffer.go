package imap

import "sync"

// bufferSize is that of a read buffer: a TLS record's worth.
const bufferSize = 16 * 1024

// A readBuffer is what one direction of a session is read into. It is there while something comes, and not while a session
// waits.
type readBuffer struct{ b *[bufferSize]byte }

// readBuffers are those that nobody uses at the moment.
var readBuffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// get returns the buffer, of which nothing is needed any more.
func (r *readBuffer) get() []byte {
	if r.b == nil {
		r.b = readBuffers.Get().(*[bufferSize]byte)
	}
	return r.b[:]
}

// release gives the buffer back.
func (r *readBuffer) release() {
	if r.b != nil {
		readBuffers.Put(r.b)
		r.b = nil
	}
}
