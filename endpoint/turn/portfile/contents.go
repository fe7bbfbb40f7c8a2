package portfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mailturn/mailturn/framework/atomicfile"
	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// The file, in bytes. Numbers are big-endian.
//
//	 0  16  magic
//	16   4  version
//	20   1  1 if the process was stopped, 0 while it runs
//	24   8  last sign of life, in nanoseconds since 1970
//	32  32  key of the nonces
//	64      a mark for each IPv4 port, then one for each IPv6 port
const (
	magic     = "mailturn ports\r\n"
	version   = 1
	stoppedAt = 20
	stampAt   = 24
	keyAt     = 32
	keyLen    = 32
	marksAt   = 64
	numPorts  = 1 << 16
	numMarks  = 2 * numPorts
	fileSize  = marksAt + numMarks
)

// Marks are written in blocks of blockLen bytes, because a system call for each would take 1 or 2 % of an allocation's CPU time.
const (
	blockLen  = 512
	numBlocks = numMarks / blockLen
)

// Bits of a mark.
const (
	markUsed = 1 << iota // in use by the process that writes the file
	markLeft             // in use when an earlier process ended
	markEnd
)

// contents is the parsed contents of a file.
type contents struct {
	stopped bool
	stamp   int64
	key     [keyLen]byte
	marks   []byte
}

// markOf returns the index of the mark of a port.
func markOf(family stun.Family, port uint16) int {
	if family == stun.IPv6 {
		return numPorts + int(port)
	}
	return int(port)
}

// read reads a file. If the file does not exist, or this version cannot read it, read returns contents without ports.
func read(path string) (contents, error) {
	none := contents{marks: make([]byte, numMarks)}
	b, _, err := bounded.ReadFile(path, fileSize)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	c, err := parse(b)
	if err != nil {
		return none, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return c, nil
}

// parse parses a file.
func parse(b []byte) (c contents, err error) {
	switch {
	case len(b) < keyAt || !bytes.HasPrefix(b, []byte(magic)):
		return c, errors.New("it is damaged")
	case binary.BigEndian.Uint32(b[len(magic):]) != version:
		return c, fmt.Errorf("it has version %d, want %d", binary.BigEndian.Uint32(b[len(magic):]), version)
	case len(b) != fileSize || b[stoppedAt] > 1:
		return c, errors.New("it is damaged")
	}
	c = contents{stopped: b[stoppedAt] == 1, stamp: int64(binary.BigEndian.Uint64(b[stampAt:])), marks: b[marksAt:]}
	copy(c.key[:], b[keyAt:])
	for _, mark := range c.marks {
		if mark >= markEnd {
			return c, errors.New("it is damaged")
		}
	}
	return c, nil
}

// bytes returns the file.
func (c contents) bytes() []byte {
	b := make([]byte, fileSize)
	copy(b, magic)
	binary.BigEndian.PutUint32(b[len(magic):], version)
	if c.stopped {
		b[stoppedAt] = 1
	}
	binary.BigEndian.PutUint64(b[stampAt:], uint64(c.stamp))
	copy(b[keyAt:], c.key[:])
	copy(b[marksAt:], c.marks)
	return b
}

// past returns what the process that wrote the file left, and changes its marks into those of an earlier process.
func (c contents) past() Past {
	past := Past{Stopped: c.stopped, Ports: make(map[stun.Family][]uint16)}
	if c.stamp > 0 {
		past.Ended = time.Unix(0, c.stamp)
	}
	for at, mark := range c.marks {
		if mark == 0 {
			continue
		}
		c.marks[at] = markLeft
		family := stun.IPv4
		if at >= numPorts {
			family = stun.IPv6
		}
		past.Ports[family] = append(past.Ports[family], uint16(at%numPorts))
		if mark&markUsed != 0 {
			past.Cut++
		}
	}
	return past
}

// create writes a new file, which takes the place of the old one, and opens it.
func create(path string, c contents) (*os.File, error) {
	if err := atomicfile.Replace(path, c.bytes(), atomicfile.Private); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY, 0)
}
