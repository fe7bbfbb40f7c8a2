package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/framework/privacy"
	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// inspectTimeout bounds how long the goroutines that serve clients may take to describe their sessions.
const inspectTimeout = 10 * time.Second

// A controllable endpoint is a TURN endpoint with mailturn's own engine.
type controllable interface {
	Counters() (turnsrv.Counters, bool)
	// SetDraining makes the endpoint refuse new calls, or accept them again.
	SetDraining(bool)
	Sessions(context.Context) ([]event.Allocation, error)
	Disconnect(ctx context.Context, match func(event.Allocation) bool) ([]event.Allocation, error)
}

// namedRelay is a TURN endpoint with its name in the configuration.
type namedRelay struct {
	name string
	controllable
}

// relays returns the TURN endpoints in the order of their names. It is safe for concurrent use.
func (o *operators) relays() (relays []namedRelay, err error) {
	for part, endpoint := range o.service.running {
		if !isRelay(endpoint) {
			continue
		}
		relay, ok := endpoint.(controllable)
		if !ok {
			return nil, control.Errorf(http.StatusNotImplemented, "%s has engine = \"pion\", which this command does not support", part)
		}
		_, name, _ := strings.Cut(part, `"`)
		relays = append(relays, namedRelay{strings.TrimSuffix(name, `"`), relay})
	}
	if len(relays) == 0 {
		return nil, control.Errorf(http.StatusConflict, "this configuration has no relay")
	}
	slices.SortFunc(relays, func(a, b namedRelay) int { return cmp.Compare(a.name, b.name) })
	return relays, nil
}

// selector chooses sessions. Each field that is not empty must match.
type selector struct {
	// Account is an account, in any case.
	Account string `json:"account,omitempty"`
	// Network is an address or a network that the client's address is in.
	Network string `json:"network,omitempty"`
	// Relayed is the relayed address with its port.
	Relayed string `json:"relayed,omitempty"`
	// Transport is udp, tcp, tls or dtls.
	Transport string `json:"transport,omitempty"`
}

// selectorOf returns the selector in a query.
func selectorOf(query url.Values) (s selector, err error) {
	for name, values := range query {
		if len(values) != 1 {
			return s, control.Errorf(http.StatusBadRequest, "the parameter %q occurs %d times", name, len(values))
		}
		switch name {
		case "account":
			s.Account = values[0]
		case "network":
			s.Network = values[0]
		case "relayed":
			s.Relayed = values[0]
		case "transport":
			s.Transport = values[0]
		default:
			return s, control.Errorf(http.StatusBadRequest, "there is no parameter %q", name)
		}
	}
	return s, nil
}

// query is the inverse of selectorOf.
func (s selector) query() string {
	values := make(url.Values)
	for name, value := range map[string]string{"account": s.Account, "network": s.Network, "relayed": s.Relayed, "transport": s.Transport} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values.Encode()
}

// matcher returns a function that reports whether the selector chooses an allocation. account returns the account that a login
// name belongs to. What mask makes of an account stands for it, too.
func (s selector) matcher(account func(string) string, mask *privacy.Mask) (func(event.Allocation) bool, error) {
	var network netip.Prefix
	var relayed netip.AddrPort
	var err error
	if s.Network != "" {
		if network, err = parseNetwork(s.Network); err != nil {
			return nil, control.Errorf(http.StatusBadRequest, "%v", err)
		}
	}
	if s.Relayed != "" {
		if relayed, err = netip.ParseAddrPort(s.Relayed); err != nil {
			return nil, control.Errorf(http.StatusBadRequest, "relayed address %q: want an IP address with a port, such as 198.51.100.7:50000", s.Relayed)
		}
	}
	transport := strings.ToUpper(s.Transport)
	if s.Transport != "" && !slices.Contains([]string{"UDP", "TCP", "TLS", "DTLS"}, transport) {
		return nil, control.Errorf(http.StatusBadRequest, "transport %q: want udp, tcp, tls or dtls", s.Transport)
	}
	name := account(s.Account)
	return func(a event.Allocation) bool {
		return (s.Account == "" || strings.EqualFold(a.Subject.Name, name) || strings.EqualFold(a.Subject.Name, s.Account) || mask.Account(a.Subject.Name) == s.Account) &&
			(s.Network == "" || network.Contains(a.Tuple.Client.Addr().Unmap().WithZone(""))) &&
			(s.Relayed == "" || a.Relayed == relayed) &&
			(s.Transport == "" || a.Tuple.Transport.String() == transport)
	}, nil
}

// parseNetwork parses an IP address or a network such as 198.51.100.0/24.
func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil || network.Addr().Is4In6() {
		return netip.Prefix{}, errors.New(`"` + printable(text) + `": want an IP address or a network, such as 198.51.100.7 or 198.51.100.0/24`)
	}
	return network.Masked(), nil
}

// sessionReport is one relayed address of an allocation. A dual allocation has two.
type sessionReport struct {
	Endpoint  string    `json:"endpoint"`
	Client    string    `json:"client"`
	Server    string    `json:"server"`
	Transport string    `json:"transport"`
	Relayed   string    `json:"relayed"`
	Account   string    `json:"account"`
	Realm     string    `json:"realm,omitempty"`
	Username  string    `json:"username"`
	Made      time.Time `json:"made"`
	Expires   time.Time `json:"expires"`
	Peers     int       `json:"peers"`
	Channels  int       `json:"channels"`

	ToPeerBytes     uint64 `json:"to_peer_bytes"`
	ToPeerPackets   uint64 `json:"to_peer_packets"`
	ToClientBytes   uint64 `json:"to_client_bytes"`
	ToClientPackets uint64 `json:"to_client_packets"`
	// Dropped is the number of dropped packets by reason, as the metrics have them.
	Dropped map[string]uint32 `json:"dropped,omitempty"`
}

// bytes is what was relayed both ways.
func (s sessionReport) bytes() uint64 { return s.ToPeerBytes + s.ToClientBytes }

func (s sessionReport) packets() uint64 { return s.ToPeerPackets + s.ToClientPackets }

func (s sessionReport) drops() (n uint64) {
	for _, count := range s.Dropped {
		n += uint64(count)
	}
	return n
}

func reportOf(endpoint string, a event.Allocation, mask *privacy.Mask) sessionReport {
	report := sessionReport{
		Endpoint: endpoint, Client: mask.AddrPort(a.Tuple.Client), Server: a.Tuple.Server.String(),
		Transport: strings.ToLower(a.Tuple.Transport.String()), Relayed: a.Relayed.String(),
		Account: mask.Account(a.Subject.Name), Realm: a.Subject.Realm, Username: mask.Account(a.Username), Made: a.Made, Expires: a.Expires,
		Peers: a.Peers, Channels: a.Channels,
		ToPeerBytes: a.ToPeer.Bytes, ToPeerPackets: a.ToPeer.Packets, ToClientBytes: a.ToClient.Bytes, ToClientPackets: a.ToClient.Packets,
	}
	for reason, n := range a.Dropped {
		if report.Dropped == nil {
			report.Dropped = make(map[string]uint32)
		}
		report.Dropped[reason.String()] = n
	}
	return report
}

// sessionsReport is the response to GET /v1/sessions and POST /v1/disconnect.
type sessionsReport struct {
	Sessions []sessionReport `json:"sessions"`
	// Problem says that the other machines of the cluster were not told to end theirs. It is empty if they were, or there are none.
	Problem string `json:"problem,omitempty"`
}

// sessions answers GET /v1/sessions.
func (o *operators) sessions(_ http.ResponseWriter, r *http.Request) (any, error) {
	s, err := selectorOf(r.URL.Query())
	if err != nil {
		return nil, err
	}
	match, err := s.matcher(o.account, o.service.privacy)
	if err != nil {
		return nil, err
	}
	return o.collect(r.Context(), func(ctx context.Context, relay namedRelay) ([]event.Allocation, error) {
		all, err := relay.Sessions(ctx)
		return slices.DeleteFunc(all, func(a event.Allocation) bool { return !match(a) }), err
	})
}

// disconnectRequest is the body of POST /v1/disconnect.
type disconnectRequest struct {
	selector
	// All is set to end all sessions.
	All bool `json:"all,omitempty"`
}

// disconnect answers POST /v1/disconnect with the sessions that it has ended.
func (o *operators) disconnect(w http.ResponseWriter, r *http.Request) (any, error) {
	var request disconnectRequest
	if err := control.Read(w, r, &request); err != nil {
		return nil, err
	}
	if (request.selector == selector{}) != request.All {
		return nil, control.Errorf(http.StatusBadRequest, "say which sessions to end, or all of them")
	}
	account, err := o.unmasked(r.Context(), request.Account)
	if err != nil {
		return nil, err
	}
	request.Account = account
	match, err := request.matcher(o.account, nil) // a mask could stand for an account that comes meanwhile
	if err != nil {
		return nil, err
	}
	relays, err := o.relays()
	if request.everywhere() {
		err = o.clustered(err)
	}
	if err != nil {
		return nil, err
	}
	report, err := o.collectFrom(r.Context(), relays, func(ctx context.Context, relay namedRelay) ([]event.Allocation, error) {
		return relay.Disconnect(ctx, match)
	})
	if request.everywhere() {
		report.Problem = o.tellSelector(r.Context(), request.selector)
	}
	o.changed(r, "sessions ended", "account", request.Account, "network", request.Network, "relay", request.Relayed,
		"transport", request.Transport, "all", request.All, "count", len(report.Sessions))
	return report, err
}

// tellSelector tells the other machines to end the calls that a selector chooses.
func (o *operators) tellSelector(ctx context.Context, chosen selector) (problem string) {
	chosen.Account = o.account(chosen.Account)
	text, err := json.Marshal(chosen)
	if err != nil { // it has only strings
		return err.Error()
	}
	return o.tell(ctx, func(ctx context.Context, x *cluster.Exchange) error { return x.Tell(ctx, string(text)) }, "other machines end no sessions.")
}

// collect returns what of each relay returns.
func (o *operators) collect(ctx context.Context, of func(context.Context, namedRelay) ([]event.Allocation, error)) (report sessionsReport, err error) {
	relays, err := o.relays()
	if err != nil {
		return report, err
	}
	return o.collectFrom(ctx, relays, of)
}

// collectFrom is collect for some relays.
func (o *operators) collectFrom(ctx context.Context, relays []namedRelay,
	of func(context.Context, namedRelay) ([]event.Allocation, error)) (report sessionsReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	report.Sessions = []sessionReport{} // not null
	for _, relay := range relays {
		allocations, err := of(ctx, relay)
		if err != nil {
			return report, err
		}
		for _, a := range allocations {
			report.Sessions = append(report.Sessions, reportOf(relay.name, a, o.service.privacy))
		}
	}
	return report, nil
}

// account returns the account that a login name belongs to, as issuers name it.
func (o *operators) account(name string) string {
	return strings.ToLower(o.service.names.Load().Account(name))
}
