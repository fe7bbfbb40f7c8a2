package stream

import "strings"

// A ResponseFilter removes entries from one METADATA response for the server (RFC 5464 section 4.4) while it passes, whatever the
// size of its values. It holds back the beginning, and each entry's name until it is complete.
type ResponseFilter struct {
	drop func(name string) bool

	step  responseStep
	token token
	list  bool   // entries with values, in parentheses
	head  []byte // the response up to the first entry, until an entry passes
	held  []byte // what has been read after that, and not decided on
	begun bool   // something has passed
	drops bool   // what is read does not pass
	pass  bool   // the byte that has been read passes
}

type responseStep byte

const (
	responseWord     responseStep = iota // "* METADATA "
	responseMailbox                      // and the space after it
	responseOpen                         // "(", or the first name
	responseName                         // and, with values, the space after it
	responseLongName                     // of an entry that passes
	responseValue
	responseNext // after an entry
	responseEnd  // after all entries, to the line end
)

// FilterState is the state of a ResponseFilter.
type FilterState byte

const (
	// Filtering: the response continues.
	Filtering FilterState = iota
	// Filtered: it has ended.
	Filtered
	// Unfiltered: it is for a mailbox, or does not have the form of RFC 5464. The rest has to pass unchanged.
	Unfiltered
)

// NewResponseFilter returns a filter that removes the entries for whose names, in lower case, drop returns true.
func NewResponseFilter(drop func(name string) bool) *ResponseFilter {
	return &ResponseFilter{drop: drop}
}

// Begun reports whether a part of the response has passed.
func (f *ResponseFilter) Begun() bool { return f.begun }

// Next consumes bytes of the response, which begins with "* METADATA ", and returns how many and what passes now, which may alias
// p. If no entry is left, nothing passes: a response without entries does not exist.
func (f *ResponseFilter) Next(p []byte) (n int, out []byte, state FilterState) {
	for n < len(p) {
		if f.step == responseValue || f.step == responseLongName {
			if size := f.token.skip(p[n:]); size > 0 {
				n += size
				if f.drops {
					continue
				}
				return n, p[n-size : n], Filtering
			}
		}
		f.pass = false
		taken, out, state := f.next(p[n])
		if taken {
			n++
		}
		if f.pass && !f.drops {
			out = p[n-1 : n]
		}
		f.begun = f.begun || len(out) > 0
		if len(out) > 0 || state != Filtering {
			return n, out, state
		}
	}
	return n, nil, Filtering
}

// next consumes one byte, or returns taken as false: the byte has to be passed again.
func (f *ResponseFilter) next(c byte) (taken bool, out []byte, state FilterState) {
	switch f.step {
	case responseWord:
		f.head = append(f.head, c)
		if len(f.head) == len("* METADATA ") {
			f.step = responseMailbox
		}
	case responseMailbox:
		return f.nextOfMailbox(c)
	case responseOpen:
		f.beginName()
		if c != '(' {
			return false, nil, Filtering
		}
		f.list = true
		f.head = append(f.head, c)
	case responseName:
		return f.nextOfName(c)
	case responseLongName, responseValue:
		return f.nextOfValue(c)
	case responseNext:
		switch {
		case c == ' ':
			f.beginName()
		case f.list && c == ')', !f.list && isLineEnd(c):
			f.step = responseEnd
			f.drops = !f.begun
			return false, nil, Filtering
		default:
			return f.giveUp()
		}
	case responseEnd:
		f.pass = true
		if c == '\n' {
			state = Filtered
		}
	}
	return true, nil, state
}

// nextOfMailbox consumes a byte of the mailbox, or the space after it. Only the server's annotations, whose mailbox is empty, are
// filtered.
func (f *ResponseFilter) nextOfMailbox(c byte) (taken bool, out []byte, state FilterState) {
	switch {
	case f.token.state != tokenEnd:
		result := f.token.next(c)
		if result == tokenWrong || result == tokenEnded || len(f.token.text) > 0 || f.token.state == tokenLiteral {
			return f.giveUp()
		}
	case c == ' ':
		f.step = responseOpen
	default:
		return f.giveUp()
	}
	f.head = append(f.head, c)
	return true, nil, Filtering
}

func (f *ResponseFilter) beginName() {
	f.step = responseName
	f.token = token{}
	f.held = nil
	f.drops = false
}

// nextOfName consumes a byte of an entry's name or, with values, the space after it.
func (f *ResponseFilter) nextOfName(c byte) (taken bool, out []byte, state FilterState) {
	if f.token.state == tokenStart && f.list && c == ')' {
		f.step = responseNext // of an empty list
		return false, nil, Filtering
	}
	result := tokenEnded
	if f.token.state != tokenEnd {
		result = f.token.next(c)
	}
	switch {
	case result == tokenWrong, result == tokenEnded && f.list && c != ' ':
		return f.giveUp()
	case result == tokenEnded && !f.list:
		f.step = responseNext
		return false, f.decide(), Filtering
	case result == tokenEnded:
		f.held = append(f.held, c)
		f.step = responseValue
		return true, f.decide(), Filtering
	}
	f.held = append(f.held, c)
	if f.token.long { // and so none of ours
		f.step = responseLongName
		return true, f.keep(), Filtering
	}
	return true, nil, Filtering
}

// nextOfValue consumes a byte of a value, or of a name that passes.
func (f *ResponseFilter) nextOfValue(c byte) (taken bool, out []byte, state FilterState) {
	result := tokenEnded
	if f.token.state != tokenEnd {
		result = f.token.next(c)
	}
	switch {
	case result == tokenWrong:
		return f.giveUp()
	case result != tokenEnded:
		f.pass = true
		return true, nil, Filtering
	case f.step == responseLongName && f.list && c == ' ':
		f.step = responseValue
		f.token = token{}
		f.pass = true
		return true, nil, Filtering
	default:
		f.step = responseNext
		return false, nil, Filtering
	}
}

// decide keeps or drops the entry whose name has been read, and returns what passes of it.
func (f *ResponseFilter) decide() []byte {
	name := strings.ToLower(string(f.token.text))
	f.token = token{}
	if f.drops = f.drop(name); f.drops {
		f.held = nil
		return nil
	}
	return f.keep()
}

// keep returns the beginning of an entry that passes, with the bytes that have to precede it.
func (f *ResponseFilter) keep() []byte {
	if f.begun {
		return append([]byte(" "), f.held...)
	}
	return append(f.head, f.held...)
}

// giveUp passes what is held, and what follows.
func (f *ResponseFilter) giveUp() (taken bool, out []byte, state FilterState) {
	switch {
	case !f.begun:
		out = append(f.head, f.held...)
	case f.step == responseName:
		out = f.keep()
	}
	return false, out, Unfiltered
}

func isLineEnd(c byte) bool { return c == '\r' || c == '\n' }
