package http

import (
	"net/http"
	"net/netip"
	"strings"
)

// peerAddr returns the address in HOST:PORT as net has it; unmapped, because dual-stack sockets have IPv4-mapped addresses, and
// without zone. It is the zero Addr if there is none.
func peerAddr(hostPort string) netip.Addr {
	ap, _ := netip.ParseAddrPort(hostPort)
	return ap.Addr().Unmap().WithZone("")
}

// forwarding are the headers that proxies add to the requests of their clients: Forwarded is from RFC 7239, Via from RFC 9110.
var forwarding = [...]string{
	"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Real-Ip",
}

// strangeProxy returns the evidence that a request comes through an untrusted proxy, and so not from the address of its connection,
// or "". nginx adds none of the headers by default, but then it uses HTTP/1.0, which no monitoring does.
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

// isNear reports whether addr may be a proxy of the operator.
func isNear(addr netip.Addr) bool {
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
}

// maxForwarded bounds the number of proxies in a row that are considered.
const maxForwarded = 16

// client returns the address of a request's client: that of the connection or, if that is a trusted proxy, the last one in
// X-Forwarded-For that is not a trusted proxy, because the client itself may have written those before it. It is the zero Addr if a
// trusted proxy does not name its client.
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

// secure reports whether the browser uses TLS, to this server or to a trusted proxy that says so.
func (s *settings) secure(r *http.Request) bool {
	return r.TLS != nil || s.proxies.Contains(peerAddr(r.RemoteAddr)) && r.Header.Get("X-Forwarded-Proto") == "https"
}
