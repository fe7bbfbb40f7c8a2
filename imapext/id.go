package imapext

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of the ID command (RFC 2971 section 3.3).
const (
	maxIDFields = 30
	maxIDName   = 30
	maxIDValue  = 1024
)

// An IDField is a field of the ID command (RFC 2971 section 3.3): a name of at most 30 octets and a value of at most 1024, both printable
// ASCII.
type IDField struct{ Name, Value string }

// appendID appends the ID command with the fields that are within the bounds.
func appendID(b []byte, fields []IDField) []byte {
	b = append(b, "ID ("...)
	separator := ""
	for i, field := range fields {
		if i == maxIDFields {
			break
		}
		if len(field.Name) > maxIDName || len(field.Value) > maxIDValue || !isPrintable(field.Name) || !isPrintable(field.Value) {
			continue
		}
		b = append(b, separator...)
		b = appendQuoted(b, field.Name)
		b = append(b, ' ')
		b = appendQuoted(b, field.Value)
		separator = " "
	}
	return append(b, ")\r\n"...)
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// identify tells the backend who its client is, under a tag of our own, before any command from the client. A backend that does not
// announce ID is not told: before login, some close the connection after a command that they do not know.
func (f *Filter) identify() Event {
	if !f.capabilities.known {
		return f.askCapabilities()
	}
	f.identifying = false
	if !f.capabilities.id {
		return Continue
	}
	f.identified = true
	tag := f.ownTag()
	f.pending = pending{kind: pendingIdentify, tag: tag}
	f.outstanding.add(tag)
	f.toBackend.add(appendID([]byte(tag+" "), f.options.Identify))
	return Wait
}

// decideID forwards the client's ID command without the fields whose names begin with "x-". In such fields (Dovecot's
// x-originating-ip and x-forward-), peers that the backend trusts say who the client is, where it connects from, and more. The
// backend may trust us, whether or not we send such fields ourselves.
func (f *Filter) decideID() Event {
	c := &f.client
	kept, dropped, err := parseID(c.collected)
	switch {
	case err != nil:
		return f.answerStatus("BAD %v", err)
	case !dropped:
		return f.forwardCommand(fmt.Appendf(nil, "%s %s%s", c.tag, c.name, c.collected))
	case len(kept) == 0:
		return f.forwardCommand(fmt.Appendf(nil, "%s ID NIL\r\n", c.tag))
	}
	return f.forwardCommand(fmt.Appendf(nil, "%s ID (%s)\r\n", c.tag, bytes.Join(kept, []byte(" "))))
}

var errIDSyntax = errors.New("syntax error in arguments of ID")

// parseID returns the names and values, as written, of the fields in arguments whose names do not begin with "x-", and whether
// there are others. It accepts more than the grammar of RFC 2971, atoms and any number of spaces, but nothing ambiguous.
func parseID(arguments []byte) (kept [][]byte, dropped bool, err error) {
	b := bytes.Trim(withoutLineEnd(arguments), " ")
	if equalFold(b, "NIL") {
		return nil, false, nil
	}
	if len(b) < 2 || b[0] != '(' {
		return nil, false, errIDSyntax
	}
	b = bytes.TrimLeft(b[1:], " ")
	for len(b) > 0 && b[0] != ')' {
		var field [2][]byte
		var name string
		for i := range field {
			value, size := idArgument(b)
			if size == 0 {
				return nil, false, errIDSyntax
			}
			if i == 0 {
				name = value
			}
			field[i] = b[:size]
			rest := bytes.TrimLeft(b[size:], " ")
			if len(rest) == len(b[size:]) && (i == 0 || len(rest) == 0 || rest[0] != ')') {
				return nil, false, errIDSyntax // no space between two arguments
			}
			b = rest
		}
		if len(name) >= 2 && strings.EqualFold(name[:2], "x-") {
			dropped = true
		} else {
			kept = append(kept, field[0], field[1])
		}
	}
	if len(b) != 1 {
		return nil, false, errIDSyntax
	}
	return kept, dropped, nil
}

// idArgument returns the value of the string or atom that b begins with, and its size in b, which is 0 if it is neither.
func idArgument(b []byte) (value string, size int) {
	if len(b) == 0 {
		return "", 0
	}
	if b[0] == '"' {
		var unquoted []byte
		for i := 1; i < len(b); i++ {
			switch b[i] {
			case '"':
				return string(unquoted), i + 1
			case '\\':
				if i++; i == len(b) || b[i] == '\r' || b[i] == '\n' {
					return "", 0
				}
			case '\r', '\n':
				return "", 0
			}
			unquoted = append(unquoted, b[i])
		}
		return "", 0
	}
	if line := bytes.IndexByte(b, '\n'); b[0] == '{' && line >= 0 {
		digits, ok := bytes.CutSuffix(bytes.TrimSuffix(b[1:line], []byte("\r")), []byte("}"))
		n, err := strconv.ParseUint(string(bytes.TrimSuffix(digits, []byte("+"))), 10, 31)
		rest := b[line+1:]
		if !ok || err != nil || n > uint64(len(rest)) {
			return "", 0
		}
		return string(rest[:n]), line + 1 + int(n)
	}
	n := 0
	for n < len(b) && isAtomChar(b[n]) {
		n++
	}
	return string(b[:n]), n
}
