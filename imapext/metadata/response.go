package metadata

import "strings"

// AppendResponse appends the METADATA response with the values of entries to b (RFC 5464 section 4.4.1). Without entries it appends
// nothing, because clients cannot parse an empty list. The mailbox and values are quoted strings, or literals where they have to
// be.
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

// ParseResponse parses a METADATA response (RFC 5464 section 4.4), which begins with "* METADATA " in any case and ends with the
// line end, literals inside. The names are as they were written. Entries of a response that only says which have changed (section
// 4.4.2) have no values.
func ParseResponse(response []byte) (mailbox string, entries []Entry, err error) {
	d := decoder{b: response}
	d.expect('*')
	d.expect(' ')
	if word := d.atom(); d.err == nil && !strings.EqualFold(word, "METADATA") {
		d.fail("%w: expected METADATA", errSyntax)
	}
	d.expect(' ')
	mailbox = d.astring()
	d.expect(' ')
	values := d.special('(')
	for d.err == nil && !(values && d.special(')')) {
		if len(entries) > 0 {
			d.expect(' ')
		}
		entry := Entry{Name: d.astring()}
		if values {
			d.expect(' ')
			entry.Value = d.nstring()
		}
		entries = append(entries, entry)
		if !values && d.peek() != ' ' {
			break
		}
	}
	d.crlf()
	if d.err != nil {
		return "", nil, d.err
	}
	return mailbox, entries, nil
}
