package metadata

import "strings"

// AppendResponse appends the METADATA response with the values of entries to b (RFC 5464 section 4.4.1). There is no
// response without entries: it appends nothing then, for clients cannot parse an empty list. The mailbox and values are quoted
// strings, or literals where they have to be.
func AppendResponse(b []byte, mailbox string, entries []Entry) []byte {
	if len(entries) == 0 {
		return b
	}
	b = append(b, "* METADATA "...)
	b = AppendString(b, mailbox)
	separator := " ("
	for _, entry := range entries {
		b = append(b, separator...)
		separator = " "
		b = appendName(b, entry.Name)
		b = append(b, ' ')
		if entry.Value.IsNIL() {
			b = append(b, "NIL"...)
		} else {
			b = AppendString(b, entry.Value.Octets())
		}
	}
	return append(b, ")\r\n"...)
}

// Response is a METADATA response of a backend (RFC 5464 section 4.4).
type Response struct {
	Mailbox string
	// Values says that the response tells entries and their values (section 4.4.1), and not only the names of entries
	// that have changed (section 4.4.2).
	Values bool
	// Names are the entries' names in lower case.
	Names []string
}

// ParseResponse parses response, which begins with "* METADATA " in any case and ends with the line end, literals inside.
func ParseResponse(response []byte) (Response, error) {
	d := decoder{b: response}
	var r Response
	d.expect('*')
	d.expect(' ')
	if word := d.atom(); d.err == nil && !strings.EqualFold(word, "METADATA") {
		d.fail("%w: expected METADATA", errSyntax)
	}
	d.expect(' ')
	r.Mailbox = d.astring()
	d.expect(' ')
	r.Values = d.special('(')
	for d.err == nil && !(r.Values && d.special(')')) {
		if len(r.Names) > 0 {
			d.expect(' ')
		}
		name := d.astring()
		if r.Values {
			d.expect(' ')
			d.nstring()
		}
		r.Names = append(r.Names, strings.ToLower(name))
		if !r.Values && d.peek() != ' ' {
			break
		}
	}
	d.crlf()
	if d.err != nil {
		return Response{}, d.err
	}
	return r, nil
}
