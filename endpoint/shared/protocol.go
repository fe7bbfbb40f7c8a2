package shared

import "bytes"

// Protocol is what an endpoint speaks over TLS.
type Protocol int

// The protocols, in the order in which endpoints are considered.
const (
	TURN Protocol = iota
	IMAP
	HTTP
)

// String returns the kind of the endpoint.
func (p Protocol) String() string { return [...]string{"turn", "imap", "http"}[p] }

// protocols are the ALPN protocol IDs (RFC 7301).
var protocols = map[string]Protocol{
	"stun.turn": TURN, // RFC 7443 section 6
	"imap":      IMAP,
	"h2":        HTTP,
	"http/1.1":  HTTP,
}

// maxFirst is how many bytes tell what a client speaks: as many as the longest of methods has.
const maxFirst = 8

// methods are those of HTTP (RFC 9110 section 9.3, RFC 5789) with the space that follows. "PRI " begins HTTP/2 without ALPN.
var methods = []string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "CONNECT ", "OPTIONS ", "TRACE ", "PATCH ", "PRI "}

// maxSTUN is the highest first byte of STUN messages, as in RFC 7983. ChannelData cannot come first, because a connection begins
// without an allocation; so letters, which begin commands of IMAP and HTTP, are never ChannelData here.
const maxSTUN = 3

// recognize tells from the first bytes what a client speaks. It returns false if more bytes are needed. What is neither STUN nor HTTP
// is IMAP, whose clients wait for a greeting, but need not.
func recognize(first []byte) (Protocol, bool) {
	if len(first) == 0 {
		return 0, false
	}
	if first[0] <= maxSTUN {
		return TURN, true
	}
	for _, method := range methods {
		n := min(len(first), len(method))
		if bytes.Equal(first[:n], []byte(method[:n])) {
			return HTTP, n == len(method)
		}
	}
	return IMAP, true
}
