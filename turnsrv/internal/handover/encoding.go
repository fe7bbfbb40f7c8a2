package handover

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Version is the newest version of the encoding. A process writes the newest version that its successor reads, so that an older
// program can follow a newer one.
const Version = 2

// OldestVersion is the oldest version that can be written and read.
const OldestVersion = 1

const (
	magic     = "mailturn state\n"
	headerLen = len(magic) + 1 + 8 + 4 // version, length and CRC-32 of what follows
)

// ErrDamaged is returned for bytes that are no state, or not a whole one.
var ErrDamaged = errors.New("the state is damaged")

// ErrVersion is returned for a version of the encoding that this program does not know.
var ErrVersion = errors.New("the version of the state is unknown")

// Encode returns s in a version of the encoding.
func Encode(s *State, version int) ([]byte, error) {
	if version < OldestVersion || version > Version {
		return nil, fmt.Errorf("%w: %d", ErrVersion, version)
	}
	c := &coder{version: version, b: make([]byte, headerLen, 1<<16)}
	s.code(c)
	seal(c.b, version)
	return c.b, nil
}

// seal writes the header of b, which is followed by the encoded values.
func seal(b []byte, version int) {
	copy(b, magic)
	head, body := b[len(magic):], b[headerLen:]
	head[0] = byte(version)
	binary.BigEndian.PutUint64(head[1:], uint64(len(body)))
	binary.BigEndian.PutUint32(head[9:], crc32.ChecksumIEEE(body))
}

// Decode returns the state that Encode has encoded. It returns ErrDamaged or ErrVersion for anything else.
func Decode(b []byte) (*State, error) {
	if len(b) < headerLen || !bytes.HasPrefix(b, []byte(magic)) {
		return nil, ErrDamaged
	}
	head, body := b[len(magic):], b[headerLen:]
	version := int(head[0])
	switch {
	case version < OldestVersion || version > Version:
		return nil, fmt.Errorf("%w: %d", ErrVersion, version)
	case binary.BigEndian.Uint64(head[1:]) != uint64(len(body)), binary.BigEndian.Uint32(head[9:]) != crc32.ChecksumIEEE(body):
		return nil, ErrDamaged
	}
	c := &coder{version: version, reading: true, b: body}
	s := new(State)
	if s.code(c); c.failed || len(c.b) > 0 {
		return nil, ErrDamaged
	}
	return s, nil
}
