package discovery

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// ErrUnparsable is the error for a response that core's parser refuses. Core then drops the session before it fetches mail, each time it
// connects, so its user gets no mail.
var ErrUnparsable = errors.New("response that Delta Chat core cannot parse")

// ParseMetadata reads a METADATA response (RFC 5464 section 4.4) as strictly as core does, which is not what the grammar says.
// response begins with "* METADATA " and ends with CRLF, literals inside. The mailbox has to be a quoted string; the list must not
// be empty; a value is NIL, a quoted string of 7-bit characters, or a literal; an entry's name is /shared followed by /admin,
// /comment or /vendor/…, or /private followed by one of the latter two. The entries of a response without values (section 4.4.2)
// have no value. The error is ErrUnparsable with the cause.
func ParseMetadata(response []byte) (mailbox string, entries []metadata.Entry, err error) {
	p := parser{b: response}
	p.word("* METADATA ")
	mailbox = p.quoted()
	p.word(" ")
	values := p.next('(')
	for p.err == nil {
		entry := metadata.Entry{Name: p.entryName()}
		if values {
			p.word(" ")
			entry.Value = p.value()
		}
		entries = append(entries, entry)
		if values && p.next(')') || !values && !bytes.HasPrefix(p.b, []byte(" /")) {
			break
		}
		p.word(" ")
	}
	p.b = bytes.TrimLeft(p.b, " ")
	p.word("\r\n")
	if p.err == nil && len(p.b) > 0 {
		p.fail("there is data after the end of the line")
	}
	if p.err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrUnparsable, p.err)
	}
	return mailbox, entries, nil
}

// parser consumes elements from the front of b. After the first error its methods return zero values.
type parser struct {
	b   []byte
	err error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
	p.b = nil
}

// next consumes c if it is next.
func (p *parser) next(c byte) bool {
	if len(p.b) == 0 || p.b[0] != c {
		return false
	}
	p.b = p.b[1:]
	return true
}

// word consumes s, in any case.
func (p *parser) word(s string) {
	if p.err != nil {
		return
	}
	if len(p.b) < len(s) || !strings.EqualFold(string(p.b[:len(s)]), s) {
		p.fail("expected %q", s)
		return
	}
	p.b = p.b[len(s):]
}

// quoted returns what is between the quotes. A backslash keeps what follows from ending the string, but stays where it is:
// core does not resolve escapes.
func (p *parser) quoted() string {
	if !p.next('"') {
		p.fail("expected a quoted string")
		return ""
	}
	for i := 0; i < len(p.b); i++ {
		switch c := p.b[i]; {
		case c == '"':
			s := string(p.b[:i])
			p.b = p.b[i+1:]
			return s
		case c == '\\':
			i++
			if i == len(p.b) || p.b[i] != '"' && p.b[i] != '\\' {
				p.fail("bad escape in a quoted string")
				return ""
			}
		case c == '\r' || c == '\n' || c == 0 || c > 0x7F:
			p.fail("character %#02x in a quoted string", c)
			return ""
		}
	}
	p.fail("a quoted string does not end")
	return ""
}

// literal returns the content of a literal, which must be UTF-8: other content makes core panic.
func (p *parser) literal() string {
	header, rest, found := bytes.Cut(p.b, []byte("}\r\n"))
	if len(header) == 0 || header[0] != '{' || !found {
		p.fail("expected a literal")
		return ""
	}
	size, err := strconv.ParseUint(string(header[1:]), 10, 32)
	if err != nil || size > uint64(len(rest)) {
		p.fail("expected a literal")
		return ""
	}
	content := rest[:size]
	if bytes.IndexByte(content, 0) >= 0 || !utf8.Valid(content) {
		p.fail("a literal is not text in UTF-8")
		return ""
	}
	p.b = rest[size:]
	return string(content)
}

func (p *parser) value() metadata.Value {
	switch {
	case p.err != nil:
		return metadata.NIL
	case bytes.HasPrefix(p.b, []byte{'"'}):
		return metadata.String(p.quoted())
	case bytes.HasPrefix(p.b, []byte{'{'}):
		return metadata.String(p.literal())
	}
	p.word("NIL")
	return metadata.NIL
}

// entryName returns an astring that core accepts as the name of an entry.
func (p *parser) entryName() string {
	if p.err != nil {
		return ""
	}
	var name string
	switch {
	case bytes.HasPrefix(p.b, []byte{'"'}):
		name = p.quoted()
	case bytes.HasPrefix(p.b, []byte{'{'}):
		name = p.literal()
	default:
		n := bytes.IndexFunc(p.b, func(r rune) bool { return r <= ' ' || r >= 0x7F || strings.ContainsRune(`(){%*"\`, r) })
		if n <= 0 {
			p.fail("expected the name of an entry")
			return ""
		}
		name, p.b = string(p.b[:n]), p.b[n:]
	}
	if p.err == nil && !validName(name) {
		p.fail("entry name %.80q: want /shared/vendor/…, /shared/comment, /shared/admin, /private/vendor/… or /private/comment", name)
	}
	return name
}

// validName is case-sensitive, as core is.
func validName(name string) bool {
	rest, private := strings.CutPrefix(name, "/private")
	if !private {
		var shared bool
		if rest, shared = strings.CutPrefix(name, "/shared"); !shared {
			return false
		}
	}
	below, vendor := strings.CutPrefix(rest, "/vendor")
	comment, isComment := strings.CutPrefix(rest, "/comment")
	admin, isAdmin := strings.CutPrefix(rest, "/admin")
	switch {
	case isAdmin && !private:
		rest = admin
	case isComment:
		rest = comment
	case vendor && len(below) >= 2 && below[0] == '/' && componentChar(below[1]):
		rest = below
	default:
		return false
	}
	if rest != "" && rest[0] != '/' {
		return false
	}
	for i := range len(rest) {
		if rest[i] != '/' && !componentChar(rest[i]) {
			return false
		}
	}
	return true
}

func componentChar(c byte) bool { return c > 0x19 && c < 0x80 && c != '*' && c != '%' && c != '/' }
