package imapext

import (
	"bytes"
	"fmt"
	"strconv"
)

// maxNumber is the length of the largest number (RFC 9051 section 9).
const maxNumber = len("4294967295")

// messages is the number of messages in the selected mailbox as the client knows it: that of the last EXISTS (RFC 9051 section
// 7.4.1), less one for each EXPUNGE since (section 7.5.1).
type messages struct {
	count uint32
	known bool

	// tag is that of the last command that selects another mailbox, or with closes none, while it is unanswered.
	tag    string
	closes bool
}

// command notes a command that is sent to the backend.
func (m *messages) command(tag, name string) {
	switch name {
	case "SELECT", "EXAMINE":
		*m = messages{tag: tag}
	case "CLOSE", "UNSELECT", "UNAUTHENTICATE", "LOGOUT":
		*m = messages{tag: tag, closes: true}
	}
}

// answered notes a command's tagged response. Responses between the command and that belong to the mailbox that the command
// selects, or to one that is closed now.
func (m *messages) answered(tag []byte, ok bool) {
	if m.tag == "" || m.tag != string(tag) {
		return
	}
	if m.closes || !ok {
		*m = messages{}
	}
	m.tag = ""
}

// response notes the response that begins with b. It reports false if b ends too early to tell whether it matters, which it does
// not after maxTag+maxResponseWord+2 bytes.
func (m *messages) response(b []byte) bool {
	rest, ok := bytes.CutPrefix(b, []byte("* "))
	if !ok {
		return true
	}
	if hasWord(rest, "VANISHED") { // RFC 7162 section 3.2.10: it does not give the messages' numbers
		m.known = false
		return true
	}
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	switch {
	case digits > maxNumber:
		m.known = false
		return true
	case digits == len(rest):
		return false
	case digits == 0 || rest[digits] != ' ':
		return true
	}
	word := rest[digits+1:]
	switch {
	case len(word) <= len("EXPUNGE") && !bytes.ContainsAny(word, " \r\n"):
		return false
	case hasWord(word, "EXISTS"):
		count, err := strconv.ParseUint(string(rest[:digits]), 10, 32)
		m.count, m.known = uint32(count), err == nil
	case hasWord(word, "EXPUNGE"):
		if m.known = m.known && m.count > 0; m.known {
			m.count--
		}
	}
	return true
}

// hasWord reports whether b begins with the word, in upper or lower case, and with something that ends a word.
func hasWord(b []byte, word string) bool {
	return len(b) > len(word) && equalFold(b[:len(word)], word) && bytes.IndexByte([]byte(" \r\n"), b[len(word)]) >= 0
}

// RepeatExists tells a client in IDLE again how many messages are in the selected mailbox, which makes clients end IDLE and look for
// changes. It queues the response for WriteClient, or returns false if the client is not in IDLE or the number is not certain.
// Options.CountMessages has to be set.
func (f *Filter) RepeatExists() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.idling() || !f.messages.known {
		return false
	}
	f.respond(fmt.Appendf(nil, "* %d EXISTS\r\n", f.messages.count))
	return true
}

// idling reports whether the client is in IDLE and the backend owes it nothing else.
func (f *Filter) idling() bool {
	return !f.gated && f.client.state == exchange && f.pending.kind == pendingIdle && f.plus.state == plusGranted && len(f.outstanding.tags) == 1
}
