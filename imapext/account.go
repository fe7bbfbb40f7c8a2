package imapext

import (
	"encoding/base64"
	"strings"
)

// maxAccount bounds the account name that is kept: the length of a mail address (RFC 5321 section 4.5.3.1) is 254.
const maxAccount = 255

// accountReader extracts the account name from the bytes of LOGIN or AUTHENTICATE PLAIN as they pass. It keeps nothing but the
// name, so no part of the password stays in memory.
type accountReader struct {
	state accountState
	name  []byte
	// Of AUTHENTICATE:
	mechanism []byte
	quantum   [4]byte // base64 digits not decoded yet
	digits    int
	identity  bool // the authorization identity has ended: what follows is the authentication identity
}

type accountState byte

const (
	accountNone     accountState = iota // not looking, or done
	accountArgument                     // LOGIN: before the user name
	accountAtom
	accountQuoted
	accountEscaped
	accountMarker  // in the announcement of a literal
	accountLiteral // in the literal
	accountMechanism
	accountPlain // in the base64 of PLAIN
)

// login starts with the byte after LOGIN, authenticate with the byte after AUTHENTICATE.
func (a *accountReader) login()        { *a = accountReader{state: accountArgument} }
func (a *accountReader) authenticate() { *a = accountReader{state: accountMechanism} }

// finish returns the name, or "" if there is none, and forgets it.
func (a *accountReader) finish() string {
	name := string(a.name)
	*a = accountReader{}
	return name
}

// feed reads the next bytes of the command's lines and literals.
func (a *accountReader) feed(b []byte) {
	for i := 0; i < len(b) && a.state != accountNone; i++ {
		a.next(b[i])
	}
}

func (a *accountReader) next(c byte) {
	switch a.state {
	case accountArgument:
		switch c {
		case ' ':
		case '"':
			a.state = accountQuoted
		case '{':
			a.state = accountMarker
		default:
			a.state = accountAtom
			a.next(c)
		}
	case accountAtom:
		if c == ' ' || isLineEnd(c) {
			a.state = accountNone
			return
		}
		a.add(c)
	case accountQuoted:
		switch c {
		case '"':
			a.state = accountNone
		case '\\':
			a.state = accountEscaped
		default:
			a.add(c)
		}
	case accountEscaped:
		a.state = accountQuoted
		a.add(c)
	case accountLiteral:
		a.add(c)
	case accountMechanism:
		switch {
		case c == ' ' && len(a.mechanism) == 0:
		case c != ' ' && !isLineEnd(c) && len(a.mechanism) < len("PLAIN")+1:
			a.mechanism = append(a.mechanism, c)
		case strings.EqualFold(string(a.mechanism), "PLAIN"):
			a.state = accountPlain
		default:
			a.state = accountNone
		}
	case accountPlain:
		a.addBase64(c)
	}
}

// literal is called when a literal begins, literalEnd when it has ended.
func (a *accountReader) literal() {
	if a.state == accountMarker {
		a.state = accountLiteral
	}
}

func (a *accountReader) literalEnd() {
	if a.state == accountLiteral {
		a.state = accountNone
	}
}

func (a *accountReader) add(c byte) {
	if len(a.name) == maxAccount {
		*a = accountReader{}
		return
	}
	a.name = append(a.name, c)
}

// addBase64 reads a byte of the line that holds PLAIN's message, authzid NUL authcid NUL passwd (RFC 4616 section 2), and stops at
// the second NUL. Up to two octets of the password share a quantum with it; they are wiped.
//
// The name is the authentication identity, whose password the server has checked. The authorization identity may be any name: some
// servers, such as Courier, ignore it.
func (a *accountReader) addBase64(c byte) {
	if isLineEnd(c) || c == ' ' || c == '=' && a.digits == 0 {
		return
	}
	a.quantum[a.digits] = c
	if a.digits++; a.digits < len(a.quantum) {
		return
	}
	a.digits = 0
	var octets [3]byte
	n, err := base64.StdEncoding.Decode(octets[:], a.quantum[:])
	if err != nil {
		*a = accountReader{}
		return
	}
	for _, octet := range octets[:n] {
		switch {
		case octet == 0 && a.identity:
			a.state = accountNone
		case octet == 0:
			a.identity = true
		case a.identity:
			a.add(octet)
		}
		if a.state == accountNone {
			break
		}
	}
	if a.state == accountNone {
		a.quantum = [4]byte{}
	}
	octets = [3]byte{}
}
