package holders

import (
	"net/netip"
	"strings"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// Holding is a relayed transport address that a client held for a time, and sent packets from.
type Holding struct {
	Endpoint  string         `json:"endpoint"`
	Relayed   netip.AddrPort `json:"relayed"`
	Account   string         `json:"account"`
	Realm     string         `json:"realm,omitempty"`
	Username  string         `json:"username"`
	Client    string         `json:"client"`    // its transport address, or what the privacy block makes of it
	Transport string         `json:"transport"` // udp, tcp, tls or dtls
	From      time.Time      `json:"from"`
	Until     time.Time      `json:"until,omitzero"` // zero while the client holds it

	ToPeerBytes   uint64 `json:"to_peer_bytes"` // of payload
	ToPeerPackets uint64 `json:"to_peer_packets"`
}

// Of returns the holding of a live allocation.
func Of(endpoint string, a event.Allocation) Holding {
	return Holding{
		Endpoint: endpoint, Relayed: a.Relayed, Account: a.Subject.Name, Realm: a.Subject.Realm, Username: a.Username,
		Client: a.Tuple.Client.String(), Transport: strings.ToLower(a.Tuple.Transport.String()), From: a.Made.Round(0),
		ToPeerBytes: a.ToPeer.Bytes, ToPeerPackets: a.ToPeer.Packets,
	}
}

// ended returns the holding that an event of the kind AllocationEnded is about.
func ended(endpoint string, e event.Event) Holding {
	return Holding{
		Endpoint: endpoint, Relayed: e.Relayed, Account: e.Subject.Name, Realm: e.Subject.Realm, Username: e.Username,
		Client: e.Tuple.Client.String(), Transport: strings.ToLower(e.Tuple.Transport.String()), From: e.Made.Round(0), Until: e.Time.Round(0),
		ToPeerBytes: e.ToPeer.Bytes, ToPeerPackets: e.ToPeer.Packets,
	}
}

// Query asks who held a port at a time.
type Query struct {
	Addr   netip.Addr // the zero Addr for any
	Port   uint16
	At     time.Time
	Within time.Duration // how far the two clocks may differ
}

// Matches reports whether h is an answer to q.
func (q Query) Matches(h Holding) bool {
	return h.Relayed.Port() == q.Port && (!q.Addr.IsValid() || h.Relayed.Addr() == q.Addr) &&
		!h.From.After(q.At.Add(q.Within)) && (h.Until.IsZero() || !h.Until.Before(q.At.Add(-q.Within)))
}
