package dictproto

import "strings"

// Dovecot's tab-escaping: NUL, the escape itself, TAB, CR and LF are written as the byte 1 and a character.
var escapes = strings.NewReplacer("\x00", "\x010", "\x01", "\x011", "\t", "\x01t", "\r", "\x01r", "\n", "\x01n")

// Escape returns s with the bytes escaped that would end a field or a line.
func Escape(s string) string { return escapes.Replace(s) }

// Unescape undoes Escape. As in Dovecot, an escape before any other character stands for that character, and one at the
// end of s for nothing.
func Unescape(s string) string {
	if strings.IndexByte(s, 1) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == 1 {
			if i++; i == len(s) {
				break
			}
			switch c = s[i]; c {
			case '0':
				c = 0
			case '1':
				c = 1
			case 't':
				c = '\t'
			case 'r':
				c = '\r'
			case 'n':
				c = '\n'
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}
