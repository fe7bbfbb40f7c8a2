package session

import (
	"fmt"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"github.com/mailturn/mailturn/turnsrv/usage"
)

// Restore restores what all sessions share. It is called before any of them handles a message.
func (s *Shared) Restore(in *handover.Incoming) error {
	state := in.State
	if len(state.NonceKey) != len(s.nonces.key) {
		return fmt.Errorf("%w: the key of nonces has %d bytes", handover.ErrDamaged, len(state.NonceKey))
	}
	s.nonces.key, s.nonces.start, s.nonces.base = [32]byte(state.NonceKey), in.At(0), state.NonceClock
	s.start = in.At(-state.Clock)
	s.paused.Store(state.Paused)
	for d := range s.throttles {
		s.throttles[d].bits.Restore(state.Throttles[d])
	}
	s.Counters.Restore(state.Counters)
	return s.config.Relay.RestoreReservations(in)
}

// Restore restores the allocations of l. stream returns a connection of l.Streams. It is called on the goroutine of the session,
// after Shared.Restore. After an error, some have been restored.
func (s *Session) Restore(in *handover.Incoming, l *handover.Link, stream func(int) (Connection, bool)) error {
	for i := range l.Allocations {
		exported := &l.Allocations[i]
		client := Client{Tuple: event.FiveTuple{Client: exported.Client, Server: exported.Server}}
		var ok bool
		if exported.Stream >= 0 {
			client.Tuple.Transport = event.TCP
			client.Stream, ok = stream(exported.Stream)
		}
		switch {
		case l.DTLS && !ok:
			s.shared.Counters.Ended[event.EndedByUpgrade].Add(uint64(len(exported.Addresses)))
			continue // the association could not be restored
		case l.DTLS:
			client.Tuple.Transport = event.DTLS
		case exported.Stream >= 0 && !ok:
			return fmt.Errorf("%w: an allocation has connection %d", handover.ErrDamaged, exported.Stream)
		}
		if s.allocations.get(client) != nil {
			return fmt.Errorf("%w: client %v has two allocations", handover.ErrDamaged, client.Tuple.Client)
		}
		if err := s.restore(in, exported, client); err != nil {
			return fmt.Errorf("allocation of %v: %w", client.Tuple.Client, err)
		}
	}
	return nil
}

func (s *Session) restore(in *handover.Incoming, exported *handover.Allocation, client Client) error {
	if exported.Account < 0 || exported.Account >= len(in.State.Accounts) || len(exported.Addresses) == 0 || len(exported.Addresses) > 2 {
		return handover.ErrDamaged
	}
	now := in.At(0)
	a := &allocation{
		session: s, client: client, username: exported.Username, realm: exported.Realm, subject: credential.Subject(exported.Subject),
		key: slices.Clone(exported.Key), expires: exported.Expires, made: exported.Made,
		since: exported.Since.UnixNano(), relayed: exported.Relayed,
	}
	if exported.WasWithdrawn {
		a.isWithdrawn, a.withdrawn = true, in.At(exported.Withdrawn).Sub(s.shared.start)
	}
	a.requests.Restore(exported.Requests)
	a.silent = s.shared.restoreSpending(in, exported.Silent)
	a.active.Store(int64(exported.Active))
	for d := range a.rates {
		was := exported.Rates[d]
		a.rates[d].bits.Restore(was.Bits)
		a.rates[d].packets.Restore(was.Packets)
		a.rates[d].share.Restore(was.Share)
	}
	for _, address := range exported.Addresses {
		if err := s.restoreAddress(in, a, address, now); err != nil {
			return err
		}
	}
	account := in.State.Accounts[exported.Account]
	for d := range a.account.packets {
		a.account.packets[d].Restore(account.Packets[d])
	}
	a.silence.Hear(in.At(exported.Heard).Sub(s.shared.start))
	a.restorePeers(in, exported)
	s.count(a)
	s.setActive(a, exported.Relaying)
	if exported.Relaying {
		s.stir(a)
	}
	return nil
}

func (s *Session) restoreAddress(in *handover.Incoming, a *allocation, exported handover.Address, now time.Time) error {
	r := &relayedAddress{allocation: a, family: stun.FamilyOf(exported.Relayed.Addr()), expires: in.At(exported.Expires).Sub(s.shared.start)}
	if a.address(r.family) != nil {
		return fmt.Errorf("%w: it has two relayed addresses of one family", handover.ErrDamaged)
	}
	r.toPeer.Restore(exported.ToPeer)
	r.toClient.Restore(exported.ToClient)
	r.metered = usage.Total{ToPeer: r.toPeer.Snapshot(), ToClient: r.toClient.Snapshot()} // by the other process
	for _, dropped := range exported.Dropped {
		for reason := range event.NumDropReasons {
			if reason.String() == dropped.Name {
				r.dropsBegun()[reason].Store(uint32(dropped.Value))
			}
		}
	}
	conn, err := s.shared.config.Relay.Restore(in, exported, s.loop)
	if err != nil {
		return err
	}
	r.conn = conn
	s.shared.quota.keep(r)
	if err := conn.Start(r); err != nil {
		s.shared.quota.give(r)
		conn.Close()
		return err
	}
	s.shared.Counters.Live[a.client.Tuple.Transport].Add(1)
	s.enter(r, now)
	return nil
}

func (s *Shared) restoreSpending(in *handover.Incoming, exported handover.Spending) silentSpending {
	if exported.Bytes == 0 {
		return silentSpending{}
	}
	return silentSpending{since: in.At(exported.Since).Sub(s.start), spent: exported.Bytes}
}

// restorePeers restores permissions and channels.
func (a *allocation) restorePeers(in *handover.Incoming, exported *handover.Allocation) {
	p := &a.peers
	for _, permission := range exported.Permissions {
		p.permit(permission.Peer, permission.Heard, in.At(permission.Expires-PermissionLifetime))
		p.permissions.get(permission.Peer).silent = a.session.shared.restoreSpending(in, permission.Silent)
	}
	for _, c := range exported.Channels {
		if known := p.permissions.get(c.Peer.Addr()); known != nil { // as always
			expires := known.expires
			p.bind(stun.ChannelNumber(c.Number), c.Peer, false, in.At(c.Expires-ChannelLifetime))
			known.expires = expires
		}
	}
}
