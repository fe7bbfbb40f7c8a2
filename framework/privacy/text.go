package privacy

import (
	"net/netip"
	"strings"
)

// Text masks the addresses in a text, such as that of an error, and what looks like the address of a mailbox.
func (m *Mask) Text(text string) string {
	modes := m.modes()
	if modes.Addresses != None {
		text = replaceTokens(text, isAddressByte, m.token)
	}
	if modes.Accounts != None && strings.Contains(text, "@") {
		text = replaceTokens(text, isMailboxByte, func(token string) string {
			if local, domain, ok := strings.Cut(token, "@"); ok && local != "" && domain != "" {
				return m.Account(token)
			}
			return token
		})
	}
	return text
}

// replaceTokens replaces the longest pieces of text that consist of bytes of a kind.
func replaceTokens(text string, of func(byte) bool, replace func(string) string) string {
	var b strings.Builder
	for len(text) > 0 {
		n := 0
		for n < len(text) && of(text[n]) {
			n++
		}
		if n > 0 {
			b.WriteString(replace(text[:n]))
			text = text[n:]
		}
		n = 0
		for n < len(text) && !of(text[n]) {
			n++
		}
		b.WriteString(text[:n])
		text = text[n:]
	}
	return b.String()
}

// isAddressByte reports whether c can be part of an address with a port. Letters and digits that cannot keep words apart from
// addresses: "fade" is one, "faded" is none.
func isAddressByte(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte(".:[]/%", c) >= 0
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func isMailboxByte(c byte) bool {
	return c > ' ' && c != 0x7F && strings.IndexByte(`"'<>()[]{},;:=\`, c) < 0
}

// maxToken is longer in bytes than an address with all that may be joined to it.
const maxToken = 128

// token masks the addresses in a piece of text, with what may be joined to them: a port, the length of a prefix, words before or after a
// colon, or the parts of a URL.
func (m *Mask) token(token string) string {
	core := strings.TrimRight(token, ".:")
	if strings.HasPrefix(token[len(core):], "::") { // as in 2001:db8::
		core = token[:len(core)+2]
	}
	end := token[len(core):]
	if len(core) > maxToken { // such as the path of a request; the work must not grow with its square
		parts := strings.Split(core, "/")
		for i, part := range parts {
			if len(part) <= maxToken {
				parts[i] = m.token(part)
			}
		}
		return strings.Join(parts, "/") + end
	}
	if scheme, rest, ok := strings.Cut(core, "://"); ok {
		return m.token(scheme) + "://" + m.token(rest) + end
	}
	if masked, ok := m.address(core); ok {
		return masked + end
	}
	if before, after, ok := strings.Cut(core, "/"); ok {
		return m.token(before) + "/" + m.token(after) + end
	}
	if i := strings.LastIndexByte(core, '['); i > 0 {
		return m.token(core[:i]) + m.token(core[i:]) + end
	}
	if masked, ok := m.joined(core); ok {
		return masked + end
	}
	if before, after, ok := strings.Cut(core, "]"); ok {
		return m.token(before) + "]" + m.token(after) + end
	}
	return token
}

// mostColons is the number of colons in the longest address with a port, [1:2:3:4:5:6:7::]:443.
const mostColons = 9

// joined masks the addresses in words that are joined by colons, such as client:198.51.100.7:50000. Of several ways to read an address,
// it takes the one that begins first, and the longest of those.
func (m *Mask) joined(text string) (masked string, ok bool) {
	colons := []int{-1} // and both ends
	for i := range len(text) {
		if text[i] == ':' {
			colons = append(colons, i)
		}
	}
	colons = append(colons, len(text))
	for first := range len(colons) - 1 {
		for last := min(first+mostColons+1, len(colons)-1); last > first; last-- {
			begin, end := colons[first]+1, colons[last]
			if masked, ok := m.bracketed(text[begin:end]); ok {
				return text[:begin] + masked + m.token(text[end:]), true
			}
		}
	}
	return "", false
}

// bracketed masks an address, also one beside a bracket that belongs to more than the address.
func (m *Mask) bracketed(text string) (masked string, ok bool) {
	if masked, ok = m.address(text); ok {
		return masked, true
	}
	inner := strings.Trim(text, "[]")
	if inner == text {
		return "", false
	}
	masked, ok = m.address(inner)
	before, after, _ := strings.Cut(text, inner)
	return before + masked + after, ok
}

// address masks an address, with a port, a zone or the length of a prefix if it has one. It reports false for one that is nobody's.
func (m *Mask) address(text string) (masked string, ok bool) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return m.AddrPort(at), !isNobodys(at.Addr())
	}
	if network, err := netip.ParsePrefix(text); err == nil {
		return m.Prefix(network), !isNobodys(network.Addr())
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return m.Addr(addr), !isNobodys(addr)
	}
	before, _, _ := strings.Cut(text, "%") // IPv4 has no zones; what this one is called matters to nobody
	if addr, err := netip.ParseAddr(before); err == nil {
		return m.Addr(addr), !isNobodys(addr)
	}
	return "", false
}
