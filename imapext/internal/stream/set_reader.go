package stream

import "strings"

// A SetReader reads the arguments of SETMETADATA (RFC 5464 section 4.3) in pieces of any size, and finds the names of the server's
// entries in them. The values may have any size: it keeps none. Like Dovecot, it accepts more than the grammar: any number of
// spaces, and none where two arguments can be told apart without, values that are atoms, and an empty list. The zero value is ready
// to use.
type SetReader struct {
	// Names are the names that have been read, in lower case. The caller may remove those that it has checked.
	Names []string

	step  setStep
	token token
	other bool // the mailbox is not empty
}

type setStep byte

const (
	setMailbox setStep = iota
	setOpen            // "(", after the mailbox
	setName
	setValue
	setClosed  // after ")"
	setEnded   // after the line end
	setInvalid // they are no arguments of SETMETADATA
)

// Read consumes the next bytes of the arguments, which begin after the command's name and end with the line end, literals and their
// announcements inside.
func (r *SetReader) Read(p []byte) {
	for len(p) > 0 && r.step != setInvalid {
		if r.step == setValue {
			if n := r.token.skip(p); n > 0 {
				p = p[n:]
				continue
			}
		}
		if r.next(p[0]) {
			p = p[1:]
		}
	}
}

// Server reports whether the arguments are, as far as they have been read, for the server's annotations or may be: the mailbox
// is empty, or not yet complete.
func (r *SetReader) Server() bool { return !r.other }

// Valid reports whether the arguments, as far as they have been read, are those of SETMETADATA.
func (r *SetReader) Valid() bool { return r.step != setInvalid }

// InValue reports whether the next byte is one of a value that is a literal.
func (r *SetReader) InValue() bool { return r.step == setValue && r.token.state == tokenLiteral }

// next consumes one byte, or returns false: the byte has to be passed again.
func (r *SetReader) next(c byte) bool {
	begins := r.token.state == tokenStart
	switch {
	case begins && c == ' ':
		return true
	case begins && isLineEnd(c) && r.step == setClosed:
		if c == '\n' {
			r.step = setEnded
		}
		return true
	case begins && c == '(' && r.step == setOpen:
		r.step = setName
		return true
	case begins && c == ')' && r.step == setName:
		r.step = setClosed
		return true
	case r.step != setMailbox && r.step != setName && r.step != setValue:
		r.step = setInvalid
		return true
	}
	result := r.token.next(c)
	if result == tokenWrong {
		r.step = setInvalid
	} else if result != tokenGoesOn {
		r.endToken()
	}
	return result != tokenEnded
}

// endToken handles the token that has been read: the mailbox, a name or a value.
func (r *SetReader) endToken() {
	text := string(r.token.text)
	switch {
	case r.step == setMailbox:
		r.step = setOpen
		r.other = text != ""
	case r.step == setName:
		if !r.token.long { // longer than any that is looked for
			r.Names = append(r.Names, strings.ToLower(text))
		}
		r.step = setValue
	default:
		r.step = setName
	}
	r.token = token{}
}
