package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// decoder reads the elements of RFC 9051 section 9 that METADATA's grammar uses. b is the rest of the input, with literals as on
// the wire. After the first error every method returns zero values.
type decoder struct {
	b   []byte
	err error
}

var errSyntax = errors.New("syntax error in arguments")

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.b = nil
}

// peek returns the next byte, or 0 at the end.
func (d *decoder) peek() byte {
	if len(d.b) == 0 {
		return 0
	}
	return d.b[0]
}

// special consumes c if it is next.
func (d *decoder) special(c byte) bool {
	if len(d.b) == 0 || d.b[0] != c {
		return false
	}
	d.b = d.b[1:]
	return true
}

func (d *decoder) expect(c byte) {
	if !d.special(c) {
		d.fail("%w: expected %q", errSyntax, c)
	}
}

// spaces consumes one space, and those that follow it: the grammar has one, but servers accept more.
func (d *decoder) spaces() {
	d.expect(' ')
	d.skipSpaces()
}

func (d *decoder) skipSpaces() { d.b = bytes.TrimLeft(d.b, " ") }

// crlf consumes the end of the command or response, and trailing spaces before it: some clients send one.
func (d *decoder) crlf() {
	if d.err != nil {
		return
	}
	rest := bytes.TrimLeft(d.b, " ")
	if string(rest) != "\r\n" && string(rest) != "\n" {
		d.fail("%w: unexpected argument", errSyntax)
	}
	d.b = nil
}

func isAtomChar(c byte) bool {
	return c > ' ' && c < 0x7F && strings.IndexByte(`(){%*"\]`, c) < 0
}

// atom returns a run of ASTRING-CHAR, which is ATOM-CHAR and "]".
func (d *decoder) atom() string {
	n := 0
	for n < len(d.b) && (isAtomChar(d.b[n]) || d.b[n] == ']') {
		n++
	}
	if n == 0 {
		d.fail("%w: expected an atom", errSyntax)
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// atString reports whether a quoted string, a literal or a literal8 (RFC 3516) is next.
func (d *decoder) atString() bool {
	c := d.peek()
	return c == '"' || c == '{' || bytes.HasPrefix(d.b, []byte("~{"))
}

func (d *decoder) astring() string {
	if d.atString() {
		return d.string()
	}
	return d.atom()
}

// nstring returns a string, a literal8 or NIL.
func (d *decoder) nstring() Value {
	if d.atString() {
		return Value{octets: d.string(), set: true}
	}
	if atom := d.atom(); d.err == nil && !strings.EqualFold(atom, "NIL") {
		d.fail("%w: expected a string or NIL", errSyntax)
	}
	return NIL
}

func (d *decoder) string() string {
	if d.special('"') {
		return d.quoted()
	}
	d.special('~')
	d.expect('{')
	end := bytes.IndexByte(d.b, '}')
	if end < 0 {
		d.fail("%w: expected a literal", errSyntax)
		return ""
	}
	digits := strings.TrimSuffix(string(d.b[:end]), "+")
	d.b = d.b[end+1:]
	size, err := strconv.ParseUint(digits, 10, 63)
	d.special('\r')
	d.expect('\n')
	if err != nil || size > uint64(len(d.b)) {
		d.fail("%w: expected a literal", errSyntax)
		return ""
	}
	s := string(d.b[:size])
	d.b = d.b[size:]
	return s
}

// quoted returns the quoted string whose opening quote has been consumed.
func (d *decoder) quoted() string {
	var s []byte
	for i := 0; i < len(d.b); i++ {
		c := d.b[i]
		switch c {
		case '"':
			d.b = d.b[i+1:]
			return string(s)
		case '\\':
			i++
			if i == len(d.b) || d.b[i] != '"' && d.b[i] != '\\' {
				d.fail("%w: bad escape in a quoted string", errSyntax)
				return ""
			}
			c = d.b[i]
		case '\r', '\n', 0:
			d.fail("%w: quoted string does not end", errSyntax)
			return ""
		}
		s = append(s, c)
	}
	d.fail("%w: quoted string does not end", errSyntax)
	return ""
}

// number returns a number, which has 32 bits (RFC 9051 section 9).
func (d *decoder) number() uint32 {
	n, err := strconv.ParseUint(d.atom(), 10, 32)
	if err != nil {
		d.fail("%w: expected a number", errSyntax)
	}
	return uint32(n)
}

// AppendString appends s as a quoted string if it is printable ASCII, which every parser accepts, else as a synchronising literal.
func AppendString(b []byte, s string) []byte {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7F {
			b = append(b, '{')
			b = strconv.AppendInt(b, int64(len(s)), 10)
			b = append(b, "}\r\n"...)
			return append(b, s...)
		}
	}
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// appendName appends an entry's name, as an atom if possible, as clients and servers do.
func appendName(b []byte, name string) []byte {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > 0x7F || !isAtomChar(byte(r)) }) {
		return AppendString(b, name)
	}
	return append(b, name...)
}
