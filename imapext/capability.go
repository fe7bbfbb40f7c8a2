package imapext

import (
	"bytes"
	"strings"
)

// capabilities is the part of the backend's announcements that the Filter needs.
type capabilities struct {
	// metadata says whether the backend has METADATA or METADATA-SERVER, by the last list after login.
	metadata metadataSupport
	// known is true after a list, or after a request for one that was refused; id is true if the last list had ID (RFC 2971).
	known, id bool
}

type metadataSupport byte

const (
	metadataUnknown metadataSupport = iota
	metadataAbsent
	metadataPresent
)

// noteCapabilities records the capabilities in words, the backend's list.
func (f *Filter) noteCapabilities(words [][]byte) {
	if f.loggedIn {
		f.capabilities.metadata = metadataAbsent
	}
	f.capabilities.known, f.capabilities.id = true, false
	for _, word := range words {
		switch {
		case equalFold(word, "ID"):
			f.capabilities.id = true
		case f.loggedIn && (equalFold(word, "METADATA") || equalFold(word, "METADATA-SERVER")):
			f.capabilities.metadata = metadataPresent
		}
	}
}

// askCapabilities asks the backend, under a tag of our own, for capabilities that it has not announced yet. No command from the
// client passes until the backend has answered, so any tag that is not in use now can be ours.
func (f *Filter) askCapabilities() Event {
	tag := f.ownTag()
	f.pending = pending{kind: pendingCapabilities, tag: tag}
	f.outstanding.add(tag)
	f.toBackend.add([]byte(tag + " CAPABILITY\r\n"))
	return Wait
}

// maxAdded is what appendCapabilities adds at most, in bytes: " METADATA COMPRESS=DEFLATE" or " STARTTLS LOGINDISABLED".
const maxAdded = 32

// appendCapabilities appends the backend's list words as the client is to see it, one space before each entry:
//
//   - STARTTLS, LOGINDISABLED and COMPRESS speak of a connection that ends here, so the backend's go, and ours come;
//   - mechanisms with channel binding cannot survive that end (RFC 5802 section 6, RFC 9266);
//   - no mechanism is there where logging in is refused here;
//   - METADATA is added after login, and so is our COMPRESS.
func (f *Filter) appendCapabilities(b []byte, words [][]byte) []byte {
	add := func(word string) {
		b = append(b, ' ')
		b = append(b, word...)
	}
	metadata := !f.loggedIn || f.options.Entries == nil
	for _, word := range words {
		switch {
		case equalFold(word, "STARTTLS"), equalFold(word, "LOGINDISABLED"), hasPrefixFold(word, "COMPRESS="):
			continue
		case hasPrefixFold(word, "AUTH=") && (f.loginDisabled() || hasSuffixFold(word, "-PLUS")):
			continue
		case equalFold(word, "METADATA"):
			metadata = true
		}
		b = append(append(b, ' '), word...)
	}
	if !metadata {
		add("METADATA")
	}
	if f.offersCompress() {
		add("COMPRESS=DEFLATE")
	}
	if f.offersStartTLS() {
		add("STARTTLS")
	}
	if f.loginDisabled() {
		add("LOGINDISABLED")
	}
	return b
}

func (f *Filter) offersStartTLS() bool {
	return f.options.StartTLS && !f.session.TLS && !f.loggedIn && !f.compressed
}

// loginDisabled reports whether LOGIN and AUTHENTICATE are refused until TLS (RFC 9051 section 6.2.3).
func (f *Filter) loginDisabled() bool {
	return !f.session.TLS && !f.options.AllowPlaintextLogin && !f.loggedIn
}

// rewriteCapability returns the untagged CAPABILITY response line as the client is to see it, and notes what it says.
func (f *Filter) rewriteCapability(line []byte) []byte {
	words := bytes.Fields(line) // "*", "CAPABILITY", ...
	f.noteCapabilities(words[2:])
	rewritten := append(make([]byte, 0, len(line)+maxAdded), "* CAPABILITY"...)
	rewritten = f.appendCapabilities(rewritten, words[2:])
	return append(rewritten, lineEnd(line)...)
}

// rewriteCode returns the status response line as the client is to see it: with its CAPABILITY response code rewritten, if
// it has one (RFC 9051 section 7.1), and noted. A line without one is returned as it is.
func (f *Filter) rewriteCode(line []byte) []byte {
	if !hasCapabilityCode(line) {
		return line
	}
	before, code, after, _ := splitCode(line)
	words := bytes.Fields(code) // "CAPABILITY", ...
	f.noteCapabilities(words[1:])
	rewritten := append(make([]byte, 0, len(line)+maxAdded), before...)
	rewritten = append(rewritten, "CAPABILITY"...)
	rewritten = f.appendCapabilities(rewritten, words[1:])
	return append(rewritten, after...)
}

// hasCapabilityCode reports whether line is a status response with the response code CAPABILITY.
func hasCapabilityCode(line []byte) bool {
	_, code, _, ok := splitCode(line)
	word, _, _ := bytes.Cut(code, []byte(" "))
	return ok && equalFold(word, "CAPABILITY")
}

// splitCode splits a status response into what is before and after the contents of its response code: "tag OK [", code, and
// "] text" with the line end. It reports false if there is no code.
func splitCode(line []byte) (before, code, after []byte, ok bool) {
	n := 0
	for range 2 { // tag and status
		space := bytes.IndexByte(line[n:], ' ')
		if space < 0 {
			return nil, nil, nil, false
		}
		n += space + 1
	}
	if n == len(line) || line[n] != '[' {
		return nil, nil, nil, false
	}
	end := bytes.IndexByte(line[n:], ']')
	if end < 0 {
		return nil, nil, nil, false
	}
	return line[:n+1], line[n+1 : n+end], line[n+end:], true
}

// lineEnd returns the line end of line as it came: CR LF, a bare LF, or nothing.
func lineEnd(line []byte) []byte {
	return line[len(withoutLineEnd(line)):]
}

// withoutLineEnd returns line without its line end.
func withoutLineEnd(line []byte) []byte {
	content, found := bytes.CutSuffix(line, []byte("\n"))
	if found {
		content = bytes.TrimSuffix(content, []byte("\r"))
	}
	return content
}

func equalFold(word []byte, name string) bool {
	return len(word) == len(name) && strings.EqualFold(string(word), name)
}

func hasPrefixFold(word []byte, prefix string) bool {
	return len(word) >= len(prefix) && equalFold(word[:len(prefix)], prefix)
}

func hasSuffixFold(word []byte, suffix string) bool {
	return len(word) >= len(suffix) && equalFold(word[len(word)-len(suffix):], suffix)
}
