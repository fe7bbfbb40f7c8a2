package dictproto

import (
	"errors"
	"strings"
)

// An Answer is the next server's answer to one request, line by line.
type Answer struct {
	session *Session // of an iteration, to know what is ours
	iterate bool
	discard bool // nobody waits for it

	rows          []row  // of ours, to be put in among those of the next server
	maximum, sent uint64 // rows; a maximum of 0 is none
}

// Next handles a line of the next server, without its LF, and returns what the client receives. done reports whether the answer is
// complete. An error means that the next server does not speak the protocol.
//
// A server that handles several requests at a time names each (*ID) and puts the name before its answers (+ID TAB). It is sent one
// request at a time, so the names are dropped.
func (a *Answer) Next(line string) (reply []byte, done bool, err error) {
	if strings.HasPrefix(line, "*") {
		return nil, false, nil
	}
	if strings.HasPrefix(line, "+") {
		_, rest, found := strings.Cut(line, "\t")
		if !found {
			return nil, false, errors.New("an answer with a name has no value")
		}
		line = rest
	}
	switch {
	case a.discard:
		return nil, true, nil
	case a.iterate && strings.HasPrefix(line, "O"):
		return a.row(line), false, nil
	case a.iterate && !strings.HasPrefix(line, "F"): // empty, or the times that it took between TABs
		reply, done = a.end(line)
		return reply, done, nil
	case line == "":
		return nil, false, errors.New("the answer is empty")
	}
	return []byte(line + "\n"), true, nil
}

// row passes on a row of the next server, after those of our rows that sort before it. Our own keys are dropped: only a user could
// have written their values there.
func (a *Answer) row(line string) (reply []byte) {
	field, _, _ := strings.Cut(line[1:], "\t")
	key := Unescape(field)
	for len(a.rows) > 0 && a.rows[0].key <= key {
		reply = a.append(reply, a.rows[0].line)
		a.rows = a.rows[1:]
	}
	if _, ours := a.session.find(key, a.session.user); ours {
		return reply
	}
	return a.append(reply, line+"\n")
}

// end returns the rest of our rows, and the last line.
func (a *Answer) end(line string) (reply []byte, done bool) {
	for _, r := range a.rows {
		reply = a.append(reply, r.line)
	}
	return append(reply, line+"\n"...), true
}

func (a *Answer) append(reply []byte, line string) []byte {
	if a.maximum > 0 && a.sent >= a.maximum {
		return reply
	}
	a.sent++
	return append(reply, line...)
}
