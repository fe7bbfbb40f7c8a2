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

// token masks a piece of text that may be an address, with a port or the length of a prefix, or a URL with one.
func (m *Mask) token(token string) string {
	core := strings.TrimRight(token, ".:")
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
		return scheme + "://" + m.token(rest) + end
	}
	if at, err := netip.ParseAddrPort(core); err == nil {
		return m.AddrPort(at) + end
	}
	if addr, err := netip.ParseAddr(core); err == nil {
		return m.Addr(addr) + end
	}
	if network, err := netip.ParsePrefix(core); err == nil {
		return m.Prefix(network) + end
	}
	if before, _, ok := strings.Cut(core, "%"); ok { // what the zone is called matters to nobody
		if addr, err := netip.ParseAddr(before); err == nil {
			return m.Addr(addr) + end
		}
	}
	for _, cut := range []string{"/", "]", ":", "["} { // tokens that are joined: the path of a URL, brackets, a name before a colon
		if before, after, ok := strings.Cut(core, cut); ok && before != "" && after != "" && len(after) < len(core) {
			if cut == ":" && strings.Count(core, ":") > 1 {
				continue // more likely a damaged address than words
			}
			return m.token(before) + cut + m.token(after) + end
		}
	}
	if inner := strings.Trim(core, "[]"); inner != core && inner != "" {
		i := strings.Index(core, inner)
		return core[:i] + m.token(inner) + core[i+len(inner):] + end
	}
	return token
}
