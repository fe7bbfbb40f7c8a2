package http

import (
	"net/http"
	"net/netip"
	"strings"
)

// peerAddr returns the address in HOST:PORT as net has it; IPv4 in its own form on dual-stack sockets too, without zone.
// It is the zero Addr if there is none.
func peerAddr(hostPort string) netip.Addr {
	ap, _ := netip.ParseAddrPort(hostPort)
	return ap.Addr().Unmap().WithZone("")
}

// forwarding are the headers with which proxies say that a request is not their own: Forwarded is RFC 7239's, Via RFC 9110's.
var forwarding = [...]string{
	"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Real-Ip",
}

// strangeProxy returns what shows that a request comes through a proxy which is not trusted, so that it is not from the address
// of its connection, or nothing. nginx sends none of the headers unless it is told to, but then it speaks HTTP/1.0, which no
// monitoring does.
func (s *settings) strangeProxy(r *http.Request) (sign string) {
	if s.proxies.Contains(peerAddr(r.RemoteAddr)) {
		return ""
	}
	for _, name := range forwarding {
		if r.Header[name] != nil {
			return name
		}
	}
	if !r.ProtoAtLeast(1, 1) {
		return r.Proto
	}
	return ""
}

// isNear reports whether addr may be a proxy of the operator's.
func isNear(addr netip.Addr) bool {
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
}

// maxForwarded bounds how many proxies in a row are looked through.
const maxForwarded = 16

// client returns the address from which a request comes: that of the connection or, when that is a trusted proxy's, the
// last one in X-Forwarded-For that is none, for whatever stands before it the client itself may have written. It is the
// zero Addr when a trusted proxy does not say for whom it asks.
func (s *settings) client(r *http.Request) netip.Addr {
	addr := peerAddr(r.RemoteAddr)
	if !s.proxies.Contains(addr) {
		return addr
	}
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for range maxForwarded {
		last := len(forwarded) - 1
		if last < 0 {
			break
		}
		addr, err := netip.ParseAddr(strings.TrimSpace(forwarded[last]))
		if err != nil {
			break
		}
		addr = addr.Unmap().WithZone("")
		if !s.proxies.Contains(addr) {
			return addr
		}
		forwarded = forwarded[:last]
	}
	return netip.Addr{}
}
