// Package hmacsha1 computes HMAC-SHA1, RFC 2104, without making garbage. Package crypto/hmac allocates 470 bytes for each key, and a relay
// computes two MACs with different keys for each request, whoever sends it. In a flood of forged requests, collecting that garbage held up
// the packets of calls.
package hmacsha1

import (
	"crypto/sha1"
	"hash"
	"sync"
)

// state is the memory of one computation. Between computations, the block is zero.
type state struct {
	hash  hash.Hash
	block [sha1.BlockSize]byte
	inner [sha1.Size]byte
}

var states = sync.Pool{New: func() any { return &state{hash: sha1.New()} }}

// Sum returns the MAC of the concatenated parts.
func Sum(key []byte, parts ...[]byte) [sha1.Size]byte {
	s := states.Get().(*state)
	defer states.Put(s)
	if len(key) > sha1.BlockSize {
		s.hash.Reset()
		s.hash.Write(key)
		s.hash.Sum(s.block[:0])
	} else {
		copy(s.block[:], key)
	}
	s.begin(0x36)
	for _, part := range parts {
		s.hash.Write(part)
	}
	s.hash.Sum(s.inner[:0])
	s.begin(0x36 ^ 0x5c) // the block contains the first pad
	s.hash.Write(s.inner[:])
	s.hash.Sum(s.inner[:0])
	s.block = [sha1.BlockSize]byte{}
	return s.inner
}

// begin begins a hash with the key, of which every byte is combined with pad.
func (s *state) begin(pad byte) {
	for i := range s.block {
		s.block[i] ^= pad
	}
	s.hash.Reset()
	s.hash.Write(s.block[:])
}
