package imap

import "sync"

const (
	// bufferSize is that of a buffer while much comes. The system's work for each read and write is most of what passing a
	// large message costs, and hardly more for 64 KiB than for 16.
	bufferSize = 64 * 1024
	// smallBufferSize is that of a buffer at first. Nearly all commands and answers fit in.
	smallBufferSize = 4 * 1024
)

// A readBuffer is what one direction of a session is read into. It is there while something comes, and not while a session
// waits.
type readBuffer struct {
	b    *[]byte
	busy bool // the last read brought as much as a small buffer holds
}

// smallBuffers and largeBuffers are those that nobody uses at the moment.
var (
	smallBuffers = sync.Pool{New: func() any { return newBuffer(smallBufferSize) }}
	largeBuffers = sync.Pool{New: func() any { return newBuffer(bufferSize) }}
)

func newBuffer(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

// next returns the buffer for the next read, given that the last one read n bytes, of which nothing is needed any more. It is a
// small one if large is false, as before login, when what a buffer holds may wait for long on behalf of a stranger.
func (r *readBuffer) next(n int, large bool) []byte {
	if n > 0 {
		r.busy = large && n >= smallBufferSize
	}
	pool, size := &smallBuffers, smallBufferSize
	if r.busy {
		pool, size = &largeBuffers, bufferSize
	}
	if r.b != nil && len(*r.b) != size {
		r.release()
	}
	if r.b == nil {
		r.b = pool.Get().(*[]byte)
	}
	return *r.b
}

// release gives the buffer back.
func (r *readBuffer) release() {
	switch {
	case r.b == nil:
		return
	case len(*r.b) == smallBufferSize:
		smallBuffers.Put(r.b)
	default:
		largeBuffers.Put(r.b)
	}
	r.b = nil
}
