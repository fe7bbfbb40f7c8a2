package imap

import "sync"

const (
	// bufferSize is that of a buffer while much comes: a TLS record's worth.
	bufferSize = 16 * 1024
	// quietBufferSize is that of a buffer while a connection is quiet. Most commands and answers fit in.
	quietBufferSize = 512
	// quietRead is the size of a read from which on another large one is expected.
	quietRead = 4 * 1024
)

// A readBuffer is what one direction of a session is read into. Thousands of sessions wait in a read at any time, and what
// they hold meanwhile is most of their memory, so the buffer is small until a read fills it.
type readBuffer struct {
	quiet [quietBufferSize]byte
	large *[bufferSize]byte // nil while the connection is quiet
}

// largeBuffers are those that nobody uses at the moment.
var largeBuffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// next returns the buffer for the next read, given that the last one read n bytes, of which nothing is needed any more.
func (b *readBuffer) next(n int) []byte {
	switch {
	case b.large == nil && n == quietBufferSize:
		b.large = largeBuffers.Get().(*[bufferSize]byte)
	case b.large != nil && n < quietRead:
		b.release()
	}
	if b.large != nil {
		return b.large[:]
	}
	return b.quiet[:]
}

// release gives the large buffer back.
func (b *readBuffer) release() {
	if b.large != nil {
		largeBuffers.Put(b.large)
		b.large = nil
	}
}
