package metadata

import "strings"

// Set is the SETMETADATA command (RFC 5464 section 4.3).
type Set struct {
	Mailbox string  // the server's annotations if empty
	Entries []Entry // names in lower case; NIL removes
}

// ParseSet parses the arguments of SETMETADATA, which are in the form that ParseGet describes. Errors are for the text of
// a tagged BAD.
func ParseSet(args []byte) (Set, error) {
	d := decoder{b: args}
	var s Set
	d.expect(' ')
	s.Mailbox = d.astring()
	d.expect(' ')
	d.expect('(')
	for d.err == nil {
		name := d.astring()
		d.expect(' ')
		s.Entries = append(s.Entries, Entry{Name: strings.ToLower(name), Value: d.nstring()})
		if d.special(')') {
			break
		}
		d.expect(' ')
	}
	d.crlf()
	if d.err != nil {
		return Set{}, d.err
	}
	for _, entry := range s.Entries {
		if err := CheckName(entry.Name); err != nil {
			return Set{}, err
		}
	}
	return s, nil
}
