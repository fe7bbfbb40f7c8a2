package imapext

import (
	"bytes"
	"math"
)

// maxStatusLine bounds the backend's responses that the Filter reads whole: status, CAPABILITY and ENABLED responses and
// continuation requests. Longer ones pass unchanged.
const maxStatusLine = 16 << 10

// responseKind is the kind of a response, by its beginning (RFC 9051 section 7).
type responseKind byte

const (
	responseData         responseKind = iota // untagged data, with literals; passes
	responseText                             // a line that is no response; passes
	responseContinuation                     // + text
	responseStatus                           // * OK, NO, BAD, PREAUTH or BYE
	responseTagged                           // tag OK, NO or BAD
	responseCapability                       // * CAPABILITY
	responseEnabled                          // * ENABLED
	responseMetadata                         // * METADATA, with literals; passes without what is ours
	responseID                               // * ID, which becomes responseData
	responseMailbox                          // * STATUS, likewise unless we have asked for it; with literals
)

// limit returns how many bytes of a response of this kind are read before it is handled whole, or 0 if it passes.
func (k responseKind) limit() int {
	switch k {
	case responseData, responseText, responseMetadata:
		return 0
	default:
		return maxStatusLine
	}
}

// hasLiterals reports whether a line of such a response may announce a literal. Those of free text cannot, whatever their end.
func (k responseKind) hasLiterals() bool {
	return k == responseData || k == responseMetadata || k == responseMailbox
}

// maxResponseWord is more than the length of any word that the second one of a response is compared to.
const maxResponseWord = 16

// readResponseKind returns the kind of the response that begins with b. It reports false if b ends too early to tell, which it does
// not after maxTag+maxResponseWord+2 bytes.
func readResponseKind(b []byte) (responseKind, bool) {
	if len(b) > 0 && b[0] == '+' {
		return responseContinuation, true
	}
	end := bytes.IndexAny(b[:min(len(b), maxTag+1)], " \r\n")
	switch {
	case end < 0 && len(b) <= maxTag:
		return responseText, false
	case end < 0 || b[end] != ' ':
		return responseText, true
	}
	first, rest := b[:end], b[end+1:]
	end = bytes.IndexAny(rest[:min(len(rest), maxResponseWord+1)], " \r\n")
	if end < 0 && len(rest) <= maxResponseWord {
		return responseText, false
	}
	untagged := string(first) == "*"
	if end < 0 {
		if untagged {
			return responseData, true
		}
		return responseText, true
	}
	word := rest[:end]
	status := equalFold(word, "OK") || equalFold(word, "NO") || equalFold(word, "BAD")
	switch {
	case !untagged && status:
		return responseTagged, true
	case !untagged:
		return responseText, true
	case status || equalFold(word, "BYE") || equalFold(word, "PREAUTH"):
		return responseStatus, true
	case equalFold(word, "CAPABILITY"):
		return responseCapability, true
	case equalFold(word, "ENABLED"):
		return responseEnabled, true
	case equalFold(word, "METADATA"):
		return responseMetadata, true
	case equalFold(word, "ID"):
		return responseID, true
	case equalFold(word, "STATUS"):
		return responseMailbox, true
	}
	return responseData, true
}

// lineTail is the end of a line that passes, long enough for the announcement of a literal.
type lineTail struct {
	b [32]byte
	n int
}

// add appends the next bytes of the line.
func (t *lineTail) add(b []byte) {
	if len(b) >= len(t.b) {
		t.n = copy(t.b[:], b[len(b)-len(t.b):])
		return
	}
	if over := t.n + len(b) - len(t.b); over > 0 {
		t.n = copy(t.b[:], t.b[over:t.n])
	}
	t.n += copy(t.b[t.n:], b)
}

func (t *lineTail) bytes() []byte {
	return t.b[:t.n]
}

// announcedLiteral returns the size of the literal that line announces, which ends in a line end: {n}, with "+" tolerated. A size
// that does not fit 64 bits counts as endless: everything after it passes, and none of it is read as a response.
func announcedLiteral(line []byte) (size uint64, ok bool) {
	line = withoutLineEnd(line)
	n := len(line) - 1
	if n < 0 || line[n] != '}' {
		return 0, false
	}
	n--
	if n >= 0 && line[n] == '+' {
		n--
	}
	end := n + 1
	for n >= 0 && line[n] >= '0' && line[n] <= '9' {
		n--
	}
	if n+1 == end || n >= 0 && line[n] != '{' {
		return 0, false
	}
	for _, c := range line[n+1 : end] {
		digit := uint64(c - '0')
		if size > (math.MaxUint64-digit)/10 {
			return math.MaxUint64, true
		}
		size = size*10 + digit
	}
	return size, true
}
