// Package stream reads METADATA's long elements (RFC 5464) as they pass, in pieces of any size and without keeping their values.
package stream

// A token follows one atom, string or NIL byte by byte (RFC 9051 section 9), which may be a literal of any size. It keeps the first
// maxText bytes of its text.
type token struct {
	state tokenState
	text  []byte
	long  bool   // the text has more than maxText bytes
	left  uint64 // bytes of the literal to come
}

// maxText is longer than any name of ours.
const maxText = 1024

type tokenState byte

const (
	tokenStart tokenState = iota
	tokenAtom
	tokenQuoted
	tokenEscaped
	tokenTilde   // of a literal8 (RFC 3516)
	tokenMarker  // in {size}
	tokenDigits  // after one digit at least
	tokenPlus    // after the "+" of a non-synchronising literal
	tokenBrace   // after "}"
	tokenCR      // after the CR that follows
	tokenLiteral // left bytes are to come
	tokenEnd
)

// tokenResult is the result of next for a byte.
type tokenResult byte

const (
	tokenGoesOn tokenResult = iota
	tokenEnds               // with this byte
	tokenEnded              // before this byte
	tokenWrong              // it is no token
)

// next consumes the token's next byte.
func (t *token) next(c byte) tokenResult {
	switch t.state {
	case tokenStart:
		switch {
		case c == '"':
			t.state = tokenQuoted
		case c == '{':
			t.state = tokenMarker
		case c == '~':
			t.state = tokenTilde
		case !isTokenChar(c):
			return tokenWrong
		default:
			t.state = tokenAtom
			t.add(c)
		}
	case tokenTilde:
		if c == '{' {
			t.state = tokenMarker
			break
		}
		t.state = tokenAtom
		t.add('~')
		return t.next(c)
	case tokenAtom:
		if !isTokenChar(c) {
			return tokenEnded
		}
		t.add(c)
	case tokenQuoted:
		switch c {
		case '"':
			return t.end()
		case '\\':
			t.state = tokenEscaped
		case '\r', '\n':
			return tokenWrong
		default:
			t.add(c)
		}
	case tokenEscaped:
		if c == '\r' || c == '\n' {
			return tokenWrong
		}
		t.state = tokenQuoted
		t.add(c)
	case tokenLiteral:
		t.add(c)
		if t.left--; t.left == 0 {
			return t.end()
		}
	default:
		return t.announcement(c)
	}
	return tokenGoesOn
}

// announcement consumes a byte of a literal's announcement (RFC 9051 section 4.3, RFC 7888).
func (t *token) announcement(c byte) tokenResult {
	switch {
	case c >= '0' && c <= '9' && (t.state == tokenMarker || t.state == tokenDigits):
		digit := uint64(c - '0')
		if t.left > (1<<63-1-digit)/10 {
			return tokenWrong
		}
		t.left = t.left*10 + digit
		t.state = tokenDigits
	case c == '+' && t.state == tokenDigits:
		t.state = tokenPlus
	case c == '}' && (t.state == tokenDigits || t.state == tokenPlus):
		t.state = tokenBrace
	case c == '\r' && t.state == tokenBrace:
		t.state = tokenCR
	case c == '\n' && (t.state == tokenBrace || t.state == tokenCR):
		t.state = tokenLiteral
		if t.left == 0 {
			return t.end()
		}
	default:
		return tokenWrong
	}
	return tokenGoesOn
}

// skip consumes bytes of a literal from the beginning of p, all but the last one, and returns how many. It does not keep their
// text.
func (t *token) skip(p []byte) int {
	if t.state != tokenLiteral || t.left <= 1 {
		return 0
	}
	n := int(min(uint64(len(p)), t.left-1))
	t.left -= uint64(n)
	return n
}

func (t *token) end() tokenResult {
	t.state = tokenEnd
	return tokenEnds
}

func (t *token) add(c byte) {
	if len(t.text) == maxText {
		t.long = true
		return
	}
	t.text = append(t.text, c)
}

// isTokenChar reports whether c may be part of a token that is not in quotes. It allows more than the grammar.
func isTokenChar(c byte) bool {
	return c > ' ' && c != '(' && c != ')' && c != '"'
}
