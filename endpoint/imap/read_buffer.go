package imap

import "sync"

const (
	// bufferSize is the size of a buffer while much data arrives. Most of the cost of passing a large message is the system's work
	// for each read and write, which is hardly higher for 64 KiB than for 16.
	bufferSize = 64 * 1024
	// smallBufferSize is the size of a buffer at first. Nearly all commands and responses fit.
	smallBufferSize = 4 * 1024
)

// A readBuffer is the buffer for one direction of a session. It has memory while data arrives, and none while a session waits.
type readBuffer struct {
	b    *[]byte
	busy bool // the last read filled a small buffer
}

// smallBuffers and largeBuffers hold the buffers that are not in use.
var (
	smallBuffers = sync.Pool{New: func() any { return newBuffer(smallBufferSize) }}
	largeBuffers = sync.Pool{New: func() any { return newBuffer(bufferSize) }}
)

func newBuffer(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

// next returns the buffer for the next read, given that the last read returned n bytes, which are no longer needed. It is a small
// one if large is false, as before login, when a stranger could occupy a buffer for long.
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

// release returns the buffer to its pool.
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
