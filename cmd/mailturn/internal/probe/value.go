package probe

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/mailturn/mailturn/imapext/discovery"
)

// parseLine parses the target as core would.
func (r *run) parseLine() bool {
	value, err := discovery.ParseValue(r.Target.line)
	if err != nil {
		r.report.Fallback = true
		return r.report.add("value.parse", "", Failure, fmt.Sprintf("the line does not parse (%v), so clients will use the public server turn.delta.chat for 7 days.", err), valueAction(err))
	}
	r.value, r.transports = value, []Transport{UDP, TCP}
	return true
}

// resolveValue checks the value, resolves its host, and adds the resulting ICE servers to the report.
func (r *run) resolveValue(ctx context.Context) bool {
	r.checkValue()
	return r.resolveRelay(ctx)
}

// resolveRelay looks up the relay's host.
func (r *run) resolveRelay(ctx context.Context) bool {
	addrs := r.lookUp(ctx, "turn.dns", r.value.Hostname)
	if r.Target.Kind != TURN {
		redacted := r.value
		redacted.Password = "[redacted]"
		servers, _ := discovery.Resolve(ctx, found(addrs), []discovery.Server{redacted.Server()})
		r.report.ICEServers = discovery.AppendJSON(nil, servers)
	}
	r.addrs = addrs
	return addrs != nil && r.checkPort()
}

// found is a resolver that returns earlier results.
type found []netip.Addr

func (f found) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { return f, nil }

// checkValue looks for values that parse but do not work.
func (r *run) checkValue() {
	v, report := r.value, r.report
	left := v.Left(r.Now())
	report.add("value.parse", "", OK, fmt.Sprintf("%s: Delta Chat can read it.", v), "")
	if strings.HasPrefix(v.Hostname, "[") {
		report.add("value.host", v.Hostname, Failure, "the host is in brackets, which clients look up as a name: they then have no relay, and no fallback.", "Remove the brackets.")
	}
	expiry, _ := r.credentialForm()
	switch {
	case left <= 0 && expiry != "":
		report.add(formID, v.Username, Failure, fmt.Sprintf("the credential expired %s ago: %s.", short(left), expiry), formAction)
	case left <= 0:
		action := "Ask the server for a new line."
		if r.Target.Kind == IMAP {
			action = "Synchronize the clocks of the issuing server and of this machine by NTP, and check that nothing caches old values."
		}
		report.add("value.expiry", v.Username, Failure, fmt.Sprintf("the credential expired %s ago by this machine's clock (%s), on %s.",
			short(left), r.Now().UTC().Format(time.RFC3339), v.Expires.Format(time.RFC3339)), action)
	case v.NeedsRefresh(r.Now()) && r.Target.Kind == IMAP:
		report.add("value.ttl", v.Username, Warning, fmt.Sprintf("credentials are valid for %s, and clients ask again whenever fewer than 12 h are left: each time their inbox loop runs.", short(left)),
			"Raise the TTL to several days: turn_ttl in mailturn.")
	default:
		report.add("value.expiry", v.Username, OK, "The credential is valid for "+short(left)+".", "")
	}
}

// checkPort checks that WebRTC allows a port.
func (r *run) checkPort() bool {
	port := r.value.Port
	switch {
	case port != 53 && port != 80 && port != 443 && port < 1024:
		return r.report.add("value.port", fmt.Sprint(port), Failure, fmt.Sprintf("WebRTC refuses TURN servers on port %d: below 1024 it allows 53, 80 and 443 only.", port),
			"Make the relay also listen on 3478 or 443, and advertise that port.")
	case port >= 49152:
		return r.report.add("turn.ports", fmt.Sprint(port), Note, fmt.Sprintf("port %d is in the default range of relayed addresses, 49152-65535.", port),
			"Choose another listening port, or exclude it from the relay's range.")
	}
	return true
}
