package imapext

import "math"

// Bounds of a command's beginning. Longer ones are refused: no client uses such tags, and no command has such a name. Dovecot
// answers a tag of 128 bytes without the tag before login.
const (
	maxTag         = 100
	maxCommandName = 64
)

// Bounds of a command without its literals. A longer line ends the session, because servers interpret it differently: to some, the
// rest is the next line.
const (
	// maxCommandText is what Dovecot reads by default (imap_max_line_length).
	maxCommandText = 64 << 10
	// maxLoginLine bounds each line of a command before login, and each line that continues AUTHENTICATE or IDLE. It is the
	// length that RFC 4954 section 4 asks of SASL exchanges in SMTP; IMAP has no figure. Dovecot reads 8,192 bytes, and Cyrus
	// 21,847, after which it takes the rest of the line for commands.
	maxLoginLine = 12288
)

// commandHead is the beginning of a command: tag SP name (RFC 9051 section 2.2.1). Both alias the bytes it was read from.
type commandHead struct {
	tag, name []byte
	size      int    // of tag, space and name
	refusal   string // the status response, without the tag, to a line that is not a command
}

// readCommandHead reads the beginning of a line. It reports false if b ends too early to tell. If the line is no command,
// refusal is set, and tag too where a valid one was seen.
//
// Lines that are not commands are refused here because backends interpret them differently: what is not a tag to one of them may be
// one to another, and the command after it would run without the Filter having seen it.
func readCommandHead(b []byte) (head commandHead, ok bool) {
	n := 0
	for n < len(b) && isHeadChar(b[n]) {
		n++
	}
	switch {
	case n > maxTag:
		return commandHead{refusal: "BAD Tag too long"}, true
	case n == len(b):
		return commandHead{}, false
	case n == 0 && isLineEnd(b[0]):
		return commandHead{refusal: "BAD Empty command line"}, true
	case n == 0 || b[n] != ' ' && !isLineEnd(b[n]):
		return commandHead{refusal: "BAD Invalid tag"}, true
	case b[n] != ' ':
		return commandHead{tag: b[:n], refusal: "BAD Missing command"}, true
	}
	head.tag = b[:n]
	start := n + 1
	n = start
	for n < len(b) && isHeadChar(b[n]) {
		n++
	}
	head.name = b[start:n]
	head.size = n
	switch {
	case len(head.name) > maxCommandName:
		head.refusal = "BAD Unknown command"
	case n == len(b):
		return commandHead{}, false
	case len(head.name) == 0 || b[n] != ' ' && !isLineEnd(b[n]):
		head.refusal = "BAD Invalid command name"
	}
	return head, true
}

// isAtomChar reports whether c is an ATOM-CHAR (RFC 9051 section 9).
func isAtomChar(c byte) bool {
	switch c {
	case '(', ')', '{', '%', '*', '"', '\\', ']':
		return false
	}
	return c > ' ' && c < 0x7F
}

// isHeadChar reports whether c is allowed in a tag or a command's name. RFC 9051 section 9 has more characters. But Dovecot answers
// a tag with "]" in it untagged, Courier splits tags at "[", "]", "}" and "~", and no client uses these.
func isHeadChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

func isLineEnd(c byte) bool {
	return c == '\r' || c == '\n'
}

// literalKind is what the end of a command's line announces.
type literalKind byte

const (
	noLiteral     literalKind = iota
	synchronising             // {n}: the client waits for "+"
	nonSynchronising
)

// commandLine follows one line of a command to its end, byte by byte, and says whether the line announces a literal
// (RFC 9051 section 4.3, RFC 7888, literal8 of RFC 3516). It keeps nothing of what passes. A line ends at LF.
type commandLine struct {
	previous byte // the byte before
	quoted   bool // inside a quoted string
	escaped  bool // after a backslash in it
	bareCR   bool // a CR was not followed by LF
	inside   bool // there is a marker elsewhere than at the end
	marker   markerState
	overflow bool   // the size does not fit 63 bits
	size     uint64 // of the literal
	plus     int    // bytes since the marker's "+", which included; 0 if there is none
}

type markerState byte

const (
	noMarker markerState = iota
	markerOpen
	markerDigits
	markerPlus
	markerClosed
)

// next takes the line's next byte and reports whether it ends the line.
func (l *commandLine) next(c byte) bool {
	if l.previous == '\r' && c != '\n' {
		l.bareCR = true
	}
	if c == '\n' {
		return true
	}
	if l.quoted {
		switch {
		case l.escaped:
			l.escaped = false
		case c == '\\':
			l.escaped = true
		case c == '"':
			l.quoted = false
		}
		l.previous = c
		return false
	}
	if l.marker == markerClosed && c != '\r' {
		l.inside = true
	}
	switch {
	case c == '"' && (l.previous == ' ' || l.previous == '('):
		l.quoted = true
		l.endMarker()
	case c == '{':
		l.endMarker()
		l.marker = markerOpen
	case l.marker == noMarker:
	case c >= '0' && c <= '9' && (l.marker == markerOpen || l.marker == markerDigits):
		l.marker = markerDigits
		l.addDigit(uint64(c - '0'))
	case c == '+' && l.marker == markerDigits:
		l.marker = markerPlus
		l.plus = 1
	case c == '}' && (l.marker == markerDigits || l.marker == markerPlus):
		l.marker = markerClosed
		if l.plus > 0 {
			l.plus++
		}
	case c == '\r' && l.marker == markerClosed && l.previous == '}':
		if l.plus > 0 {
			l.plus++
		}
	default:
		l.endMarker()
	}
	l.previous = c
	return false
}

// tail returns the end of the line, as far as it has been read, that a backend must not see before what follows: the end
// of an announcement, from which a "+" has to go, and a CR. Servers answer to as little as these: Dovecot 2.3 sends
// its continuation request at the "}", and runs a command without arguments at the CR.
func (l *commandLine) tail() string {
	switch {
	case l.plus > 0:
		return "+}\r"[:l.plus]
	case l.marker == markerClosed && l.previous == '\r':
		return "}\r"
	case l.marker == markerClosed:
		return "}"
	case l.previous == '\r':
		return "\r"
	default:
		return ""
	}
}

func (l *commandLine) endMarker() {
	l.marker, l.overflow, l.size, l.plus = noMarker, false, 0, 0
}

func (l *commandLine) addDigit(digit uint64) {
	if l.size > (math.MaxInt64-digit)/10 {
		l.overflow = true
		return
	}
	l.size = l.size*10 + digit
}

// disputed reports whether servers differ in where the line ends, given whether its LF has been read, or in whether it
// announces a literal. Some take a CR for a line end, or read a quoted string across one. Dovecot 2.3 asks for the literal of an
// announcement elsewhere than at the line's end before it finds that wrong, and imapserver of go-imap accepts spaces after one:
// either way the "+" would be taken for the grant of another literal. No client sends such lines.
func (l *commandLine) disputed(ended bool) bool {
	return l.bareCR || l.inside || ended && l.quoted
}

// literal returns what the line that has ended announces.
func (l *commandLine) literal() literalKind {
	switch {
	case l.marker != markerClosed:
		return noLiteral
	case l.plus > 0:
		return nonSynchronising
	default:
		return synchronising
	}
}
