package probe

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// forbidden contains peers that no relay on the internet should reach: its own machine, and private and link-local networks. The probe only
// requests permissions; it sends nothing there.
var forbidden = []struct {
	id   string
	addr netip.Addr
	what string
}{
	{"safety.loopback", netip.MustParseAddr("127.0.0.1"), "loopback"},
	{"safety.loopback", netip.MustParseAddr("::1"), "loopback"},
	{"safety.loopback", netip.MustParseAddr("0.0.0.0"), "this host"},
	{"safety.loopback", netip.MustParseAddr("::ffff:127.0.0.1"), "loopback in an IPv6 address"},
	{"safety.private", netip.MustParseAddr("10.0.0.1"), "a private network"},
	{"safety.private", netip.MustParseAddr("172.16.0.1"), "a private network"},
	{"safety.private", netip.MustParseAddr("192.168.0.1"), "a private network"},
	{"safety.private", netip.MustParseAddr("169.254.169.254"), "the metadata service of clouds"},
	{"safety.private", netip.MustParseAddr("fc00::1"), "a private network"},
	{"safety.private", netip.MustParseAddr("fe80::1"), "the local link"},
}

// safety tries what the relay must refuse, at an address at which it allocates.
func (r *run) safety(ctx context.Context, a *attempt) {
	r.Progress("trying what the relay must refuse")
	r.forbiddenPeers(ctx, a)
	r.badCredentials(ctx, a)
}

func (r *run) forbiddenPeers(ctx context.Context, a *attempt) {
	again := &attempt{addr: a.addr, Relay: Relay{Transport: a.Transport}}
	e, _, _, err := r.allocate(ctx, again, r.value.Username, r.value.Password)
	if err != nil {
		r.report.add("safety.loopback", a.subject(), Skipped, fmt.Sprintf("Forbidden peers were not tried: %v.", err), "")
		r.report.notTested(fmt.Sprintf("which peers the relay refuses (%v)", err))
		return
	}
	defer r.finish(e)
	reached := make(map[string][]string)
	for _, peer := range forbidden {
		ctx, cancel := context.WithTimeout(ctx, r.Depth.patience())
		err := e.CreatePermission(ctx, peer.addr)
		cancel()
		switch {
		case err == nil:
			reached[peer.id] = append(reached[peer.id], fmt.Sprintf("%v (%s)", peer.addr, peer.what))
		case turnclient.Code(err) == 0:
			r.report.add("safety.loopback", a.subject(), Skipped, fmt.Sprintf("Whether the relay refuses %v as a peer is unknown: %v.", peer.addr, err), "")
			r.report.notTested(fmt.Sprintf("whether the relay refuses %v as a peer (%v)", peer.addr, err))
			return
		}
	}
	server := a.addr.Addr().Unmap()
	switch peers := reached["safety.loopback"]; {
	case peers == nil:
		r.report.add("safety.loopback", a.subject(), OK, "The relay refuses loopback peers.", "")
	case server.IsLoopback():
		r.report.add("safety.loopback", a.subject(), Skipped, "The relay is on loopback itself, and so are its peers.", "")
	default:
		r.report.add("safety.loopback", a.subject(), Failure, fmt.Sprintf("every user can reach the services of the relay's own machine: it relays to %s.", strings.Join(peers, ", ")),
			"Deny those peers: remove allow-loopback-peers from coturn's configuration, or loopback from allow in mailturn's peers.")
	}
	switch peers := reached["safety.private"]; {
	case peers == nil:
		r.report.add("safety.private", a.subject(), OK, "The relay refuses private and link-local peers.", "")
	case isLocal(server):
		r.report.add("safety.private", a.subject(), Skipped, "The relay is in a private network itself, and so are its peers.", "")
	default:
		r.report.add("safety.private", a.subject(), Warning, fmt.Sprintf("every user can reach the relay's private networks: it relays to %s.", strings.Join(peers, ", ")),
			"Deny private, link-local and shared addresses as peers (denied-peer-ip in coturn); mailturn does by default.")
	}
}

// badCredentials checks that a wrong password and an expired credential are refused.
func (r *run) badCredentials(ctx context.Context, a *attempt) {
	refused := func(username, password string) (bool, error) {
		again := &attempt{addr: a.addr, Relay: Relay{Transport: a.Transport}}
		e, _, _, err := r.allocate(ctx, again, username, password)
		if err == nil {
			r.finish(e)
		}
		code := turnclient.Code(err)
		return refusesCredential(code) || code == stun.CodeForbidden, err
	}
	switch ok, err := refused(r.value.Username, r.value.Password+"x"); {
	case ok:
		r.report.add("safety.password", a.subject(), OK, "The relay refuses a wrong password.", "")
	case err == nil:
		r.report.add("safety.password", a.subject(), Failure, "the relay accepts any password.", "Enable authentication.")
	default:
		r.report.add("safety.password", a.subject(), Skipped, fmt.Sprintf("A wrong password was not tried: %v.", err), "")
		r.report.notTested(fmt.Sprintf("whether the relay refuses a wrong password (%v)", err))
	}
	if r.Secret.IsZero() {
		r.report.add("safety.expired", a.subject(), Skipped, "An expired credential was not tried: that requires the secret (--secret-file).", "")
		return
	}
	expired := credential.Issuer{Secret: r.Secret, TTL: -time.Hour}.IssueFor(r.Username, r.Now())
	switch ok, err := refused(expired.Username, expired.Password); {
	case ok:
		r.report.add("safety.expired", a.subject(), OK, "The relay refuses an expired credential.", "")
	case err == nil:
		r.report.add("safety.expired", a.subject(), Warning, "the relay accepts an expired credential: one that leaks is valid forever.", "Use a relay that checks the expiry.")
	default:
		r.report.add("safety.expired", a.subject(), Skipped, fmt.Sprintf("An expired credential was not tried: %v.", err), "")
		r.report.notTested(fmt.Sprintf("whether the relay refuses an expired credential (%v)", err))
	}
}
