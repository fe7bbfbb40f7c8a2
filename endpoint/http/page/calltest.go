package page

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/mailturn/mailturn/endpoint/http/respond"
	"github.com/mailturn/mailturn/endpoint/issuer"
)

// testCredentialTTL is how long a credential for the call test is valid: a test takes a minute or two.
const testCredentialTTL = 10 * time.Minute

// maxTested is the number of relays that one call test tries. A cluster may have many more.
const maxTested = 8

// testAccount is the account of all call tests. They share the quotas of one user, whoever has a link.
const testAccount = "call-test"

// A way is one way from the browser to a relay, with a credential for it.
type way struct {
	Host       string `json:"host"`      // of the relay, as configured
	Transport  string `json:"transport"` // "udp", "tcp" or "tls"
	Family     string `json:"family"`    // "IPv4", "IPv6", or empty if the browser chooses
	URL        string `json:"url"`       // RFC 7065
	Username   string `json:"username"`
	Credential string `json:"credential"`
}

func (p *Page) serveCallTest(w http.ResponseWriter, _ Visit) {
	writeAsset(w, http.StatusOK, "call-test.html")
}

// serveLink answers the operator with a link that others may use.
func (p *Page) serveLink(w http.ResponseWriter, v Visit) {
	if !p.sessions.valid(v, p.now()) {
		respond.Problem(w, http.StatusUnauthorized, "log in first")
		return
	}
	token, expires := v.Access.newLink(p.now())
	p.logger.Info("page: link to the call test made", "client", v.Client, "until", expires)
	respond.JSON(w, http.StatusOK, "application/json", struct {
		Token   string `json:"token"`
		Expires int64  `json:"expires"` // seconds since the Unix epoch
	}{token, expires.Unix()})
}

// serveWays answers whoever is logged in or has a link with the ways to test.
func (p *Page) serveWays(w http.ResponseWriter, v Visit) {
	now := p.now()
	operator := p.sessions.valid(v, now)
	token, linked := strings.CutPrefix(v.Header.Get("Authorization"), "Bearer ")
	switch {
	case operator:
	case !linked:
		respond.Problem(w, http.StatusUnauthorized, "log in, or use a link")
		return
	case !v.Access.acceptLink(token, now):
		respond.Problem(w, http.StatusForbidden, "the link has expired or is incomplete")
		return
	}
	if wait := v.Allow(); wait > 0 {
		retryAfter(w, wait)
		respond.Problem(w, http.StatusTooManyRequests, "too many requests from your address")
		return
	}
	if !v.Ready {
		respond.Problem(w, http.StatusServiceUnavailable, "the server is draining, starting or stopping")
		return
	}
	ways := []way{}
	relays := v.Access.turn.All()
	for _, relay := range relays[:min(len(relays), maxTested)] {
		relay.TTL.V = min(relay.TTL.V, testCredentialTTL)
		issued := relay.IssueFor(testAccount, now)
		for _, one := range waysTo(relay, p.addresses.of(v.Context(), relay.Server.V, v.Client, now)) {
			one.Username, one.Credential = issued.Username, issued.Password
			ways = append(ways, one)
		}
	}
	respond.JSON(w, http.StatusOK, "application/json", struct {
		Ways     []way `json:"ways"`
		Operator bool  `json:"operator"` // may make links
	}{ways, operator})
}

// waysTo returns the ways to a relay whose addresses are known: each transport over each family. With a name, the browser would
// choose the family. TLS needs the name, to which the certificate belongs.
func waysTo(relay issuer.Config, addrs []netip.Addr) (ways []way) {
	for _, server := range relay.Servers() {
		to := func(host, family string) way {
			scheme, transport := "turn", server.Transport
			if transport == "tls" {
				scheme, transport = "turns", "tcp"
			}
			return way{
				Host: relay.Server.V, Transport: server.Transport, Family: family,
				URL: scheme + ":" + net.JoinHostPort(host, strconv.Itoa(int(server.Port))) + "?transport=" + transport,
			}
		}
		switch {
		case len(addrs) == 0, server.Transport == "tls" && len(addrs) > 1:
			ways = append(ways, to(relay.Server.V, ""))
		case server.Transport == "tls":
			ways = append(ways, to(relay.Server.V, family(addrs[0])))
		default:
			for _, addr := range addrs {
				ways = append(ways, to(addr.String(), family(addr)))
			}
		}
	}
	return ways
}

func family(addr netip.Addr) string {
	if addr.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
