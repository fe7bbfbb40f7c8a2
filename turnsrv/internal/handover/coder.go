package handover

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// coder writes values to b, or reads them from b. The same code does both, so the two cannot differ. After a value that cannot be
// read, failed is set, and further ones are zero.
type coder struct {
	version int
	reading bool
	b       []byte
	failed  bool
}

func (c *coder) fail() {
	c.failed, c.b = true, nil
}

func (c *coder) unsigned(v *uint64) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	value, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return
	}
	*v, c.b = value, c.b[n:]
}

func (c *coder) signed(v *int64) {
	zigzag := uint64(*v<<1) ^ uint64(*v>>63)
	if c.unsigned(&zigzag); c.reading {
		*v = int64(zigzag>>1) ^ -int64(zigzag&1)
	}
}

// whole codes an int in the range of an int32.
func (c *coder) whole(v *int) {
	value := int64(*v)
	if c.signed(&value); value != int64(int32(value)) {
		c.fail()
		value = 0
	}
	*v = int(value)
}

func (c *coder) duration(v *time.Duration) { c.signed((*int64)(v)) }

// instant codes a time of the wall clock, which may be zero.
func (c *coder) instant(v *time.Time) {
	set := !v.IsZero()
	if c.flag(&set); !set {
		*v = time.Time{}
		return
	}
	seconds, nanoseconds := v.Unix(), int64(v.Nanosecond())
	c.signed(&seconds)
	c.signed(&nanoseconds)
	if c.reading {
		*v = time.Unix(seconds, nanoseconds)
	}
}

func (c *coder) flag(v *bool) {
	var value uint64
	if *v {
		value = 1
	}
	if c.unsigned(&value); value > 1 {
		c.fail()
	}
	*v = value == 1
}

func (c *coder) bytes(v *[]byte) {
	n := uint64(len(*v))
	c.unsigned(&n)
	switch {
	case !c.reading:
		c.b = append(c.b, *v...)
	case n > uint64(len(c.b)):
		c.fail()
	case n > 0:
		*v, c.b = c.b[:n:n], c.b[n:]
	}
}

func (c *coder) text(v *string) {
	b := []byte(*v)
	if c.bytes(&b); c.reading {
		*v = string(b)
	}
}

// fixed codes the bytes of an array.
func (c *coder) fixed(v []byte) {
	switch {
	case !c.reading:
		c.b = append(c.b, v...)
	case len(c.b) < len(v):
		c.fail()
	default:
		c.b = c.b[copy(v, c.b):]
	}
}

// marshaled codes a value that has an encoding of its own.
func marshaled[T any, P interface {
	*T
	MarshalBinary() ([]byte, error)
	UnmarshalBinary([]byte) error
}](c *coder, v *T) {
	var b []byte
	if !c.reading {
		b, _ = P(v).MarshalBinary() // of an address, which cannot fail
	}
	if c.bytes(&b); c.reading && P(v).UnmarshalBinary(b) != nil {
		c.fail()
	}
}

func (c *coder) addr(v *netip.Addr)         { marshaled(c, v) }
func (c *coder) addrPort(v *netip.AddrPort) { marshaled(c, v) }

// list codes a list whose elements take at least one byte each.
func list[T any](c *coder, v *[]T, code func(*T)) {
	n := uint64(len(*v))
	if c.unsigned(&n); c.reading {
		if n > uint64(len(c.b)) {
			c.fail()
			return
		}
		*v = nil
	}
	for i := uint64(0); i < n && !c.failed; i++ {
		if c.reading {
			*v = append(*v, *new(T))
		}
		code(&(*v)[i])
	}
}
