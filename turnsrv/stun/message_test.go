package stun

import (
	"bytes"
	"errors"
	"iter"
	"net/netip"
	"testing"
)

var testID = TransactionID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

func build(f func(b *Builder)) []byte {
	var b Builder
	b.Start(MethodAllocate, ClassRequest, testID)
	f(&b)
	return b.Bytes()
}

func TestMessageType(t *testing.T) {
	for method := range Method(1 << 12) {
		for class := range Class(4) {
			typ := joinType(method, class)
			if typ&0xC000 != 0 {
				t.Fatalf("type %#x of %v has its top bits set", typ, method)
			}
			if m, c := splitType(typ); m != method || c != class {
				t.Fatalf("%v class %d became %v class %d", method, class, m, c)
			}
		}
	}
	if got := joinType(MethodAllocate, ClassError); got != 0x0113 {
		t.Errorf("Allocate error response = %#04x, want 0x0113", got)
	}
}

func TestParseRefuses(t *testing.T) {
	good := build(func(b *Builder) { b.Uint32(AttrLifetime, 600) })
	change := func(at int, value ...byte) []byte {
		b := append([]byte(nil), good...)
		copy(b[at:], value)
		return b
	}
	tests := []struct {
		name string
		in   []byte
		want error
	}{
		{"empty", nil, ErrNotSTUN},
		{"19 bytes", good[:19], ErrNotSTUN},
		{"header only, length lies", good[:20], ErrLength},
		{"top bits 10", change(0, 0x80), ErrNotSTUN},
		{"top bits 11", change(0, 0xC0), ErrNotSTUN},
		{"wrong cookie", change(4, 0x20), ErrNotSTUN},
		{"one byte short", good[:len(good)-1], ErrLength},
		{"one byte more", append(change(0), 0), ErrLength},
		{"length not a multiple of four", append(change(3, 9), 0), ErrLength},
		{"attribute longer than the message", change(22, 0, 5), ErrLength},
		{"attribute of 65535 bytes", change(22, 0xFF, 0xFF), ErrLength},
		{"fingerprint wrong", build(func(b *Builder) { b.Uint32(AttrFingerprint, 1) }), ErrFingerprint},
		{"fingerprint of three bytes", build(func(b *Builder) { b.Attr(AttrFingerprint, []byte{1, 2, 3}) }), ErrFingerprint},
		{"fingerprint not last", build(func(b *Builder) { b.Fingerprint(); b.Uint32(AttrLifetime, 1) }), ErrFingerprint},
		{"two fingerprints", build(func(b *Builder) { b.Fingerprint(); b.Fingerprint() }), ErrFingerprint},
	}
	for _, test := range tests {
		if _, err := Parse(test.in); !errors.Is(err, test.want) {
			t.Errorf("%s: Parse = %v, want %v", test.name, err, test.want)
		}
	}
	if _, err := Parse(good); err != nil {
		t.Errorf("the message that the table spoils does not parse itself: %v", err)
	}
}

func TestT15AttributesAfterIntegrityAreIgnored(t *testing.T) {
	key := []byte("key")
	raw := build(func(b *Builder) {
		b.Text(AttrUsername, "alice")
		b.MessageIntegrity(key)
		b.Uint32(AttrLifetime, 0)
		b.MessageIntegrity([]byte("another key"))
		b.Fingerprint()
	})
	m, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !m.VerifyIntegrity(key) || !m.HasFingerprint {
		t.Error("the first MESSAGE-INTEGRITY or FINGERPRINT was not taken")
	}
	for typ := range m.Attributes() {
		if typ != AttrUsername {
			t.Errorf("attribute %#04x counts", uint16(typ))
		}
	}
}

func TestIntegrityOfWrongLength(t *testing.T) {
	for _, length := range []int{0, 19, 21, 32} {
		raw := build(func(b *Builder) { b.Attr(AttrMessageIntegrity, make([]byte, length)) })
		m, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !m.HasIntegrity() || m.VerifyIntegrity(nil) {
			t.Errorf("integrity of %d bytes: present %v, verifies %v", length, m.HasIntegrity(), m.VerifyIntegrity(nil))
		}
	}
}

func TestT02AddressLengths(t *testing.T) {
	for length := range 25 {
		for family := range byte(5) {
			value := make([]byte, length)
			if length > 1 {
				value[1] = family
			}
			_, err := ParseXORAddress(value, testID)
			want := family == 1 && length == 8 || family == 2 && length == 20
			if (err == nil) != want {
				t.Errorf("%d bytes of family %d: %v", length, family, err)
			}
		}
	}
}

func TestXORAddressRoundTrip(t *testing.T) {
	for _, s := range []string{"192.0.2.1:32853", "0.0.0.0:0", "[2001:db8::1]:65535", "[::ffff:192.0.2.1]:80"} {
		addr := netip.MustParseAddrPort(s)
		raw := build(func(b *Builder) { b.XORAddress(AttrXORPeerAddress, addr) })
		m, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range m.Attributes() {
			if got, err := ParseXORAddress(value, m.TransactionID); err != nil || got != addr {
				t.Errorf("%v became %v, %v", addr, got, err)
			}
		}
	}
}

func TestParseChannelData(t *testing.T) {
	tests := []struct {
		in     string
		number ChannelNumber
		data   string
		ok     bool
	}{
		{in: "\x40\x00\x00\x00", number: 0x4000, ok: true},
		{in: "\x40\x00\x00\x02ab", number: 0x4000, data: "ab", ok: true},
		{in: "\x7f\xff\x00\x02ab\x00\x00", number: 0x7fff, data: "ab", ok: true},
		{in: "\x40\x00\x00\x03ab"},
		{in: "\x40\x00\xff\xfcabcde"}, // wraps in 16-bit arithmetic: T01
		{in: "\x40\x00\x00"},
		{in: ""},
	}
	for _, test := range tests {
		number, data, err := ParseChannelData([]byte(test.in))
		if (err == nil) != test.ok || number != test.number || string(data) != test.data {
			t.Errorf("ParseChannelData(%q) = %#x, %q, %v", test.in, number, data, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{rfc5769Request, rfc5769ResponseIPv4, rfc5769ResponseIPv6, rfc5769LongTerm} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := Parse(raw)
		if err != nil {
			return
		}
		m.VerifyIntegrity([]byte("key"))
		// Encoding the parsed message and parsing it again must give the same result.
		var b Builder
		b.Start(m.Method, m.Class, m.TransactionID)
		for typ, value := range m.Attributes() {
			if addr, err := ParseXORAddress(value, m.TransactionID); err == nil && typ == AttrXORPeerAddress {
				b.XORAddress(typ, addr)
				continue
			}
			b.Attr(typ, value)
		}
		again, err := Parse(b.Bytes())
		if err != nil {
			t.Fatalf("written again: %v", err)
		}
		if again.Method != m.Method || again.Class != m.Class || again.TransactionID != m.TransactionID {
			t.Fatal("the header changed")
		}
		next, stop := pull(&again)
		defer stop()
		for typ, value := range m.Attributes() {
			gotType, gotValue, ok := next()
			if !ok || gotType != typ || !equalAttribute(typ, gotValue, value) {
				t.Fatalf("attribute %#04x %x became %#04x %x", uint16(typ), value, uint16(gotType), gotValue)
			}
		}
	})
}

// equalAttribute ignores the first byte of an address, which is reserved.
func equalAttribute(typ AttrType, a, b []byte) bool {
	if typ == AttrXORPeerAddress && len(a) == len(b) && len(a) > 0 {
		a, b = a[1:], b[1:]
	}
	return bytes.Equal(a, b)
}

func pull(m *Message) (func() (AttrType, []byte, bool), func()) { return iter.Pull2(m.Attributes()) }

func BenchmarkParse(b *testing.B) {
	raw := unhex(b, rfc5769LongTerm)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyIntegrity(b *testing.B) {
	m, err := Parse(unhex(b, rfc5769LongTerm))
	if err != nil {
		b.Fatal(err)
	}
	key := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		m.VerifyIntegrity(key)
	}
}
