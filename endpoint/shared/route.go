package shared

import (
	"slices"
)

// route is where a connection may go.
type route struct {
	fallback   bool
	candidates []*member // if it is not the fallback; none if nobody understands the client
}

// route decides where the connection goes that has begun with h.
//
// Whatever is not for an endpoint reaches the fallback as it is: other server names, protocols that no endpoint of the name speaks, and
// what is not TLS, such as plain HTTP. Without a fallback, the endpoints also get other names, as on a port of their own, and refuse
// other protocols with the alert of RFC 7301 section 3.2.
func (p *Port) route(h *hello) route {
	p.mu.Lock()
	members := slices.Clone(p.members)
	p.mu.Unlock()
	hasFallback := p.config.Load().Fallback != ""
	if !h.tls {
		plain := slices.DeleteFunc(members, func(m *member) bool { return !m.takesPlain(h.read, hasFallback) })
		return route{fallback: hasFallback && len(plain) == 0, candidates: plain[:min(len(plain), 1)]}
	}
	if h.answer != nil {
		return route{}
	}
	named := slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return !m.Certificates().Has(h.name) })
	if len(named) == 0 {
		if hasFallback {
			return route{fallback: true}
		}
		named = members
	}
	if len(h.alpn) == 0 {
		return route{candidates: onePerProtocol(named)}
	}
	for _, id := range h.alpn { // the client's preference comes first
		protocol, known := protocols[id]
		i := slices.IndexFunc(named, func(m *member) bool { return known && m.Protocol == protocol })
		if i >= 0 {
			return route{candidates: named[i : i+1]}
		}
	}
	return route{fallback: hasFallback, candidates: named[:min(len(named), 1)]}
}

// takesPlain reports whether the endpoint gets a connection without TLS that has begun with b. Without a fallback, an HTTP endpoint
// answers that TLS is required.
func (m *member) takesPlain(b []byte, hasFallback bool) bool {
	protocol, known := recognize(b[:min(len(b), maxFirst)])
	return known && protocol == m.Protocol && (m.Plain || protocol == HTTP && !hasFallback)
}

// onePerProtocol returns the first of each protocol. Only without a fallback, for a name that is not theirs, there may be more.
func onePerProtocol(members []*member) (all []*member) {
	for _, m := range members {
		if len(all) == 0 || all[len(all)-1].Protocol != m.Protocol {
			all = append(all, m)
		}
	}
	return all
}
