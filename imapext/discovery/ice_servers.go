package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"unicode/utf8"
)

// Server is a TURN server whose name has not been resolved.
type Server struct {
	Hostname   string
	Port       uint16
	Username   string
	Credential string
}

// Server returns the server that the value names.
func (v Value) Server() Server {
	return Server{Hostname: v.Hostname, Port: v.Port, Username: v.Username, Credential: v.Password}
}

// FallbackServers returns what core uses if it knows no TURN server: a public one, whose password is compiled into every client.
// Before it, core up to 2.61 listed a public STUN server, nine.testrun.org.
func FallbackServers() []Server {
	return []Server{{Hostname: "turn.delta.chat", Port: 3478, Username: "public", Credential: "o4tR7yG4rG2slhXqRUf9zgmHz"}}
}

// ICEServer is an RTCIceServer (W3C WebRTC section 4.2.4).
type ICEServer struct {
	URLs       []string
	Username   string
	Credential string
}

// A Resolver looks up the addresses of a host: *net.Resolver is one. network is "ip".
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Resolve looks up the servers as core does: every address becomes the URL turn:ADDRESS:PORT without a transport, which WebRTC
// takes to mean UDP. It leaves out servers that do not resolve, and returns the reasons in failed. A nil resolver stands for
// net.DefaultResolver.
func Resolve(ctx context.Context, resolver Resolver, servers []Server) (resolved []ICEServer, failed []error) {
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	resolved = []ICEServer{}
	for _, s := range servers {
		addrs, err := resolver.LookupNetIP(ctx, "ip", s.Hostname)
		if err == nil && len(addrs) == 0 {
			err = errNoAddress
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("resolve TURN server %q: %w", s.Hostname, err))
			continue
		}
		ice := ICEServer{Username: s.Username, Credential: s.Credential}
		for _, addr := range addrs {
			ice.URLs = append(ice.URLs, "turn:"+netip.AddrPortFrom(addr.Unmap(), s.Port).String())
		}
		resolved = append(resolved, ice)
	}
	return resolved, failed
}

// AppendJSON appends servers to b, byte for byte as core's serde_json writes them: compact, the members in the order urls,
// username, credential.
func AppendJSON(b []byte, servers []ICEServer) []byte {
	b = append(b, '[')
	for i, s := range servers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"urls":[`...)
		for j, url := range s.URLs {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendJSONString(b, url)
		}
		b = append(b, `],"username":`...)
		b = appendJSONString(b, s.Username)
		b = append(b, `,"credential":`...)
		b = appendJSONString(b, s.Credential)
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendJSONString escapes only what RFC 8259 section 7 requires, whereas encoding/json also escapes U+2028 and U+2029.
func appendJSONString(b []byte, s string) []byte {
	const short = "btn\x00fr" // the escapes of U+0008 to U+000D; U+000B has no short one
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= '\b' && r <= '\r' && r != '\v':
			b = append(b, '\\', short[r-'\b'])
		case r < ' ':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
