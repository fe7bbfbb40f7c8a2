package session

import (
	"bytes"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/handover"
)

// Export is the state of a server in the making, for another process.
type Export struct {
	*handover.Outgoing
	shared   *Shared
	now      time.Time
	accounts map[*holding]int // indices in State.Accounts
	cut      uint64           // relayed addresses whose clients cannot be handed over
}

// NewExport begins a state with what all sessions share. None of them may handle messages or run its janitor from here on, until the
// other process has taken over or Suspend(false) is called. version is that of the encoding.
func (s *Shared) NewExport(now time.Time, version int) *Export {
	e := &Export{Outgoing: handover.NewOutgoing(now, version), shared: s, now: now, accounts: make(map[*holding]int)}
	e.State.Clock = now.Sub(s.start)
	e.State.NonceKey, e.State.NonceClock = bytes.Clone(s.nonces.key[:]), s.nonces.steady(now)
	e.State.Paused = s.paused.Load()
	for d := range s.throttles {
		e.State.Throttles[d] = s.throttles[d].bits.State()
	}
	s.config.Relay.ExportReservations(e.Outgoing)
	return e
}

// until returns the time from now on until at, which is given since Shared.start.
func (e *Export) until(at time.Duration) time.Duration { return at - e.now.Sub(e.shared.start) }

// Finish ends the state with the counters.
func (e *Export) Finish() {
	for _, counter := range e.shared.Counters.Export() {
		if counter.Name != endedByUpgrade {
			e.State.Counters = append(e.State.Counters, counter)
		}
	}
	ended := e.shared.Counters.Ended[event.EndedByUpgrade].Load() + e.cut
	e.State.Counters = append(e.State.Counters, handover.Counter{Name: endedByUpgrade, Value: ended})
}

// endedByUpgrade is the name of a counter that is higher for the other process: the allocations end only when it has taken over.
const endedByUpgrade = "ended/upgrade"

// canHandOver reports whether another process can take over the clients of a transport. It cannot take over a TLS connection, whose
// keys package crypto/tls does not give away, and a DTLS association only since version 2 of the state.
func (e *Export) canHandOver(t event.Transport) bool {
	return t == event.UDP || t == event.TCP || t == event.DTLS && e.Version >= 2
}

// Export adds the allocations of the session to l. stream returns the index in l.Streams of a connection, and false if the link does
// not hand it over. It is called on the goroutine of the session.
func (s *Session) Export(e *Export, l *handover.Link, stream func(Connection) (int, bool)) error {
	s.callAsked(e.now, false)
	for a := range s.allocations.all {
		client := a.client
		index, ok := -1, e.canHandOver(client.Tuple.Transport)
		if ok && client.Stream != nil {
			index, ok = stream(client.Stream)
		}
		if !ok {
			e.cut += uint64(len(a.addresses))
			e.shared.meterAddresses(a.addresses, e.now)
			continue
		}
		exported, err := a.export(e)
		if err != nil {
			return err
		}
		exported.Stream = index
		l.Allocations = append(l.Allocations, exported)
	}
	return nil
}

func (a *allocation) export(e *Export) (handover.Allocation, error) {
	for _, c := range a.peers.channels.all() {
		c.endOffload(e.now) // the other process gives it to the kernel again; meanwhile its packets wait in the sockets
	}
	e.shared.meterAddresses(a.addresses, e.now)
	exported := handover.Allocation{
		Client: a.client.Tuple.Client, Server: a.client.Tuple.Server, Username: a.username, Realm: a.realm,
		Subject: handover.Subject(a.subject), Key: a.key, Expires: a.expires.Round(0),
		Made: a.made, Since: time.Unix(0, a.since), Heard: -a.silence.For(e.now.Sub(e.shared.start)),
		Account: e.account(a.account), Requests: a.requests.State(), Silent: a.silent.export(e),
		Relaying: a.counted, Relayed: a.relayed, Active: time.Duration(a.active.Load()),
	}
	if exported.WasWithdrawn = a.isWithdrawn; a.isWithdrawn {
		exported.Withdrawn = e.until(a.withdrawn)
	}
	for d := range a.rates {
		r := &a.rates[d]
		exported.Rates[d] = handover.Rates{Bits: r.bits.State(), Packets: r.packets.State(), Share: r.share.State()}
	}
	for _, r := range a.addresses {
		address, err := r.conn.Export(e.Outgoing)
		if err != nil {
			return exported, err
		}
		address.Expires = e.until(r.expires)
		address.ToPeer, address.ToClient = r.toPeer.Export(), r.toClient.Export()
		for reason, n := range r.drops() {
			address.Dropped = append(address.Dropped, handover.Counter{Name: reason.String(), Value: uint64(n)})
		}
		exported.Addresses = append(exported.Addresses, address)
	}
	for addr, p := range a.peers.permissions.all() {
		exported.Permissions = append(exported.Permissions, handover.Permission{
			Peer: addr, Expires: e.Until(p.expires), Heard: p.heard.Load(), Silent: p.silent.export(e),
		})
	}
	for number, c := range a.peers.channels.all() {
		exported.Channels = append(exported.Channels, handover.Channel{Number: int(number), Peer: c.peer, Expires: e.Until(c.expires)})
	}
	return exported, nil
}

// account returns the index of what a holding and its quota consist of.
func (e *Export) account(h *holding) int {
	index, known := e.accounts[h]
	if !known {
		index = len(e.State.Accounts)
		e.accounts[h] = index
		var account handover.Account
		for d := range h.packets {
			account.Packets[d] = h.packets[d].State()
		}
		e.State.Accounts = append(e.State.Accounts, account)
	}
	return index
}

func (s *silentSpending) export(e *Export) handover.Spending {
	if s.spent == 0 {
		return handover.Spending{}
	}
	return handover.Spending{Since: e.until(s.since), Bytes: s.spent}
}

// Release forgets the allocations, which another process has taken over, and ends those that it could not. It is called instead of
// End, on the goroutine of the session.
func (s *Session) Release(handedOver func(Client) bool, now time.Time) {
	for a := range s.allocations.all {
		if !handedOver(a.client) {
			s.endAddresses(a.addresses, event.EndedByUpgrade, now)
			continue
		}
		for _, r := range a.addresses {
			s.shared.quota.give(r)
			s.shared.Counters.Live[a.client.Tuple.Transport].Add(-1)
			r.conn.Close()
		}
		s.allocations.remove(a)
	}
	s.shared.occupied.set(s, false)
	s.callAsked(now, true)
}
