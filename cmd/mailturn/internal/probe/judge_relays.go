package probe

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	// maxAnswer is the size in bytes above which an answer to a stranger is considered large. Most servers send around 100.
	maxAnswer = 150
	// goodLoss is the share of packets that may be lost without a warning.
	goodLoss = 0.02
)

// judgeRelays turns the attempts into checks.
func (r *run) judgeRelays(attempts []*attempt) {
	primary := slices.DeleteFunc(slices.Clone(attempts), func(a *attempt) bool { return a.Transport != r.primary() })
	others := slices.DeleteFunc(slices.Clone(attempts), func(a *attempt) bool { return a.Transport == r.primary() })
	for _, a := range attempts {
		if a.anonymous {
			r.report.add("safety.anonymous", a.subject(), Failure, "anybody gets an allocation, without credentials.", "Enable authentication: lt-cred-mech and use-auth-secret in coturn.")
			return
		}
	}
	if i := slices.IndexFunc(primary, (*attempt).allocated); i >= 0 {
		r.report.add(turnID(r.primary()), primary[i].subject(), OK, fmt.Sprintf("%s answers in %s and allocates in %s, for %d s.", primary[i].subject(), ms(primary[i].BindingMS), ms(primary[i].AllocateMS), primary[i].LifetimeS), "")
		r.judgeFamilies(primary)
	} else {
		r.judgeSilence(primary, others)
	}
	r.judgeOthers(others, slices.ContainsFunc(primary, func(a *attempt) bool { return a.Stage == stageAllocate }))
	for _, a := range attempts {
		if a.allocated() {
			r.judgeAllocation(a)
		}
	}
	r.judgeUntested(attempts)
	for _, a := range attempts {
		if a.ResponseBytes > maxAnswer {
			r.report.add("turn.answer_size", a.subject(), Warning, fmt.Sprintf("a stranger's request of %d bytes is answered with %d.", a.RequestBytes, a.ResponseBytes),
				"Shorten the realm and disable the SOFTWARE attribute (no-software-attribute in coturn): otherwise the server can be used to flood others.")
			break
		}
	}
}

func turnID(t Transport) string { return "turn." + string(t) }

func (a *attempt) allocated() bool { return a.RelayedAddr != "" }

func (a *attempt) subject() string {
	return a.addr.String() + " " + strings.ToUpper(string(a.Transport))
}

// judgeSilence says why the transport that decides makes no allocation.
func (r *run) judgeSilence(primary, others []*attempt) {
	port := r.value.Port
	through := slices.IndexFunc(others, func(a *attempt) bool { return a.allocated() || a.Stage == stageAllocate })
	far := primary[0]
	for _, a := range primary {
		if progress(a) > progress(far) {
			far = a
		}
	}
	id, name := turnID(r.primary()), strings.ToUpper(string(r.primary()))
	switch far.Stage {
	case stageAllocate:
		r.judgeRefusal(far)
	case stageTLS:
		summary, action := tlsProblem(far.err, far.TLS, r.value.Hostname, r.Now())
		r.report.add("turn.tls", far.subject(), Failure, summary, action)
	case stageChallenge:
		r.report.add(id, far.subject(), Failure, fmt.Sprintf("%s answers Binding requests but not Allocate requests: %v.", far.subject(), far.err), "Check that this is a TURN server, not a STUN-only server.")
	case stageRoute:
		r.report.add(id, far.subject(), Failure, fmt.Sprintf("this machine has no route to %v.", far.addr.Addr()), "Probe from a machine with both IPv4 and IPv6.")
	default:
		switch {
		case errors.As(far.err, new(strayError)):
			r.report.add(id, far.subject(), Failure, fmt.Sprintf("%s answers, but %v, and clients ignore such an answer.", far.subject(), far.err),
				"Make the relay listen on each of its addresses separately (listen in mailturn, listening-ip in coturn), so that it answers from the address that was asked, and check what NAT or routing does to its answers.")
		case through >= 0:
			r.report.add(id, far.subject(), Failure, fmt.Sprintf("%s to port %d is blocked (%s); %s gets through, but clients do not use it.", name, port, networkReason(far.err), strings.ToUpper(string(others[through].Transport))),
				fmt.Sprintf("Open %s port %d in the server's firewall and at its provider, and check that the relay listens there.", name, port))
		default:
			r.report.add(id, far.subject(), Failure, fmt.Sprintf("no relay at %s: %s.", far.subject(), networkReason(far.err)),
				fmt.Sprintf("Check that the relay is running and listening on port %d, that this is its address, and that the firewall lets %s through.", port, name))
		}
	}
}

// progress orders stages by how far an attempt got.
func progress(a *attempt) int {
	return slices.Index([]string{stageRoute, stageConnect, stageBinding, stageTLS, stageChallenge, stageAllocate, stageRelay}, a.Stage)
}

// refusesCredential reports whether servers refuse a user name or a password with this code: pion answers 400.
func refusesCredential(code stun.ErrorCode) bool {
	return code == stun.CodeUnauthenticated || code == stun.CodeBadRequest || code == stun.CodeWrongCredentials
}

// judgeRefusal says why an Allocate request with credentials was refused.
func (r *run) judgeRefusal(a *attempt) {
	left := r.value.Left(r.Now())
	switch code := stun.ErrorCode(a.Code); {
	case refusesCredential(code):
		expiry, password := r.credentialForm()
		switch form := cmp.Or(expiry, password); {
		case form != "":
			r.report.add(formID, a.subject(), Failure, fmt.Sprintf("the relay refuses the credential (%v): %s.", a.err, form), formAction)
		case r.Target.Kind == TURN && r.Secret.IsZero():
			r.report.add("turn.credential", a.subject(), Failure, fmt.Sprintf("the relay refuses the user name or the password (%v).", a.err), "Check both, and that the user belongs to the realm "+a.Realm+".")
		case r.Target.Kind == TURN:
			r.report.add("turn.credential", a.subject(), Failure, fmt.Sprintf("the relay refuses a credential made with the secret (%v): it uses another secret.", a.err), "Compare the secret file with the relay's secret (static-auth-secret in coturn): a line break at the end counts.")
		case strings.Contains(r.value.Password, ":"):
			r.report.add("turn.credential", a.subject(), Failure, fmt.Sprintf("the relay refuses the credential (%v), whose password has a colon: clients split the value at the first three colons, and take the rest as the password.", a.err),
				"Issue credentials whose user name is only the expiry: EXPIRY:NAME does not work here.")
		case left <= 0:
			r.report.add("turn.credential", a.subject(), Failure, fmt.Sprintf("the relay refuses the credential, which has expired (%v).", a.err), "Set the clocks by NTP.")
		default:
			r.report.add("turn.credential", a.subject(), Failure, fmt.Sprintf("the relay refuses a credential that is valid for %s (%v): it was made with another secret, or the relay's clock is that far ahead.", short(left), a.err),
				"Give the IMAP side and the relay the same secret (secret and turn_secret in mailturn, static-auth-secret in coturn), then compare their clocks.")
		}
	case code == stun.CodeForbidden:
		r.report.add("turn.credential", a.subject(), Failure, "the relay refuses this account or address (403 Forbidden): it is banned, or the relay does not allow it.", "Run `mailturn ctl bans` on the relay.")
	case code == stun.CodeAllocationQuotaReached:
		r.report.add("turn.credential", a.subject(), Failure, "the allocation quota is used up (486).",
			"Wait until old allocations expire, or raise the quota. Or the user has reached user_bytes_per_day, which lasts until 00:00 UTC: `mailturn_turn_refused_total` says which.")
	case code == stun.CodeInsufficientCapacity:
		r.report.add("turn.credential", a.subject(), Failure, "the relay is out of capacity (508).", "Check the range of relay ports, the limit on open files, and whether the relay is draining (`mailturn ctl status`).")
	default:
		r.report.add("turn.credential", a.subject(), Failure, fmt.Sprintf("the relay does not allocate: %v.", a.err), "Check the relay's log.")
	}
}

// judgeFamilies compares the addresses of the transport that decides, at least one of which works.
func (r *run) judgeFamilies(primary []*attempt) {
	for _, a := range primary {
		id, family := "turn.ipv4", "IPv4"
		if a.addr.Addr().Is6() {
			id, family = "turn.ipv6", "IPv6"
		}
		switch {
		case a.allocated():
		case a.Stage == stageRoute:
			r.report.add(id, a.subject(), Skipped, fmt.Sprintf("%v was not tried: this machine has no %s.", a.addr.Addr(), family), "")
			r.report.notTested(fmt.Sprintf("%v (this machine has no %s)", a.addr.Addr(), family))
		default:
			r.report.add(id, a.subject(), Warning, fmt.Sprintf("%s does not allocate (%s), although it is in DNS: clients wait for it, and those with only %s have no relay.", a.subject(), networkReason(a.err), family),
				fmt.Sprintf("Make the relay listen on %v and open its port, or remove the address from DNS.", a.addr.Addr()))
		}
	}
	_, err := netip.ParseAddr(r.value.Hostname)
	switch named := err != nil; {
	case named && !slices.ContainsFunc(r.addrs, netip.Addr.Is4):
		r.report.add("turn.ipv4", r.value.Hostname, Warning, "the relay has no IPv4 address: clients in networks without IPv6 have no relay.", "Give it an IPv4 address, and the name an A record.")
	case !slices.ContainsFunc(r.addrs, netip.Addr.Is6):
		r.report.add("turn.ipv6", r.value.Hostname, Note, "the relay has no IPv6 address; clients in IPv6-only networks reach it through their provider's NAT64, if at all.", "")
	}
}

// judgeOthers adds checks of transports that clients do not use today. refused says that the transport that decides was refused an
// allocation.
func (r *run) judgeOthers(others []*attempt, refused bool) {
	for _, a := range others {
		id := turnID(a.Transport)
		switch {
		case a.allocated():
			r.report.add(id, a.subject(), OK, fmt.Sprintf("%s allocates in %s.", a.subject(), ms(a.AllocateMS)), "")
		case a.Stage == stageRoute:
		case a.Stage == stageTLS:
			summary, action := tlsProblem(a.err, a.TLS, r.value.Hostname, r.Now())
			r.report.add(id, a.subject(), Warning, fmt.Sprintf("for TURN over TLS, at %v, %s", a.addr, summary), action)
		case a.Stage == stageAllocate && refused: // already reported for the other transport
		default:
			r.report.add(id, a.subject(), Note, fmt.Sprintf("%s does not allocate (%s). Delta Chat does not use it today.", a.subject(), networkReason(a.err)), "")
		}
	}
}

// judgeAllocation examines an allocation, and the packets that passed through it.
func (r *run) judgeAllocation(a *attempt) {
	relayed, _ := netip.ParseAddrPort(a.RelayedAddr)
	server, address := a.addr.Addr().Unmap(), relayed.Addr().Unmap()
	what, special := peer.SpecialPurpose(address)
	where, _ := peer.SpecialPurpose(server)
	blocked := a.Direct != nil && a.Direct.Received == 0
	const action = "Set relay_ip to the address that the internet sees (external-ip in coturn); behind a NAT, relay_bind is the machine's own."
	switch {
	case special && !isLocal(server) && what.What != where.What:
		r.report.add("turn.relayed_address", a.subject(), Failure, fmt.Sprintf("the relay gives out %v, %s, which callers elsewhere cannot reach.", address, what), action)
		return
	case address != server && address.Is4() == server.Is4() && blocked:
		r.report.add("turn.relayed_address", a.subject(), Failure, fmt.Sprintf("the relay gives out %v, but its address is %v, and packets to the former do not arrive.", address, server), action)
		return
	case address != server && address.Is4() == server.Is4() && a.Direct == nil:
		r.report.add("turn.relayed_address", a.subject(), Warning, fmt.Sprintf("the relay gives out %v, but its address is %v.", address, server), action)
	default:
		r.report.add("turn.relayed_address", a.subject(), OK, fmt.Sprintf("The relayed address is %v.", address), "")
	}
	r.judgeEcho(a)
	switch {
	case blocked:
		r.report.add("turn.direct", a.subject(), Failure, fmt.Sprintf("no packet to the relayed address %v arrives: the relay ports are closed, and calls with users of other servers fail.", relayed),
			"Open the relay's UDP ports, 49152-65535 unless relay_ports (min-port and max-port in coturn) says otherwise, in the server's firewall and at its provider.")
	case a.Direct == nil:
		r.report.add("turn.direct", a.subject(), Skipped, "Whether the relay's ports are open was not tested: "+a.directSkipped+".", "")
	default:
		r.judgeLoss("turn.direct", a, a.Direct, "from outside to the relay and back")
	}
	r.judgePacketSize(a)
}

// isLocal reports whether an address is used only within a host, a site or a provider.
func isLocal(addr netip.Addr) bool {
	special, ok := peer.SpecialPurpose(addr)
	return ok && special.Local
}

// judgeEcho examines the packets between two allocations.
func (r *run) judgeEcho(a *attempt) {
	switch e := a.RelayToRelay; {
	case e == nil && stun.ErrorCode(a.Code) == stun.CodeForbidden:
		r.report.add("turn.relay_to_relay", a.subject(), Failure, "the relay refuses its own relayed addresses as peers (403): two users of this server cannot call each other.",
			"Allow the relay's own address as a peer.")
	case e == nil:
		r.report.add("turn.relay_to_relay", a.subject(), Failure, fmt.Sprintf("no packets from relay to relay: %v.", a.err), "Check the relay's log.")
	case e.Received == 0:
		through := slices.IndexFunc(r.report.Relays, func(o Relay) bool { return o.RelayToRelay != nil && o.RelayToRelay.Received > 0 })
		if through >= 0 { // so the path between the relayed addresses works
			r.report.add("turn.relay_to_relay", a.subject(), Failure, fmt.Sprintf("none of %d packets got through on channels of %s, although it allocates and packets get through over %s: ChannelData is dropped between here and the relay.",
				e.Sent, a.subject(), strings.ToUpper(string(r.report.Relays[through].Transport))),
				"Probe from another network, and check what is in front of the relay: a firewall or load balancer that knows STUN but not TURN drops messages whose first byte is 0x40 to 0x4F.")
			return
		}
		r.report.add("turn.relay_to_relay", a.subject(), Failure, fmt.Sprintf("none of %d packets got through from one relayed address of this server to another.", e.Sent),
			"Check that the server can send to its own public address, which fails behind a NAT without hairpinning, and that its firewall allows the relay ports.")
	default:
		r.judgeLoss("turn.relay_to_relay", a, e, "from relay to relay and back")
	}
}

// judgeLoss adds a check if some packets came back.
func (r *run) judgeLoss(id string, a *attempt, e *Echo, way string) {
	if lost := e.Sent - e.Received; float64(lost) > goodLoss*float64(e.Sent) {
		r.report.add(id, a.subject(), Warning, fmt.Sprintf("%d of %d packets were lost %s, over %s.", lost, e.Sent, way, a.subject()),
			"Probe again with --thorough, and from another network: voice suffers when 2 % or more are lost. Then check the server's load and its bandwidth limits.")
		return
	}
	r.report.add(id, a.subject(), OK, capital(way)+": "+e.String()+".", "")
}

// String summarizes the counts and times.
func (e *Echo) String() string {
	if e.Received == 0 {
		return fmt.Sprintf("0 of %d packets", e.Sent)
	}
	return fmt.Sprintf("%d of %d packets, %s", e.Received, e.Sent, ms(e.MedianMS))
}

// ms writes a time in milliseconds.
func ms(v float64) string {
	switch {
	case v < 0.05:
		return "<0.1 ms"
	case v < 10:
		return fmt.Sprintf("%.1f ms", v)
	default:
		return fmt.Sprintf("%.0f ms", v)
	}
}
