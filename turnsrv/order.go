package turnsrv

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	// pionUser and pionRealm are who the front is to pion. The key is random, and no client ever sees any of them.
	pionUser  = "front"
	pionRealm = "pion"

	// pionLifetime is the longest that pion gives an allocation, which is less than an hour (it takes an hour for a
	// mistake and gives ten minutes). The janitor renews it, so that pion's own timer never ends an allocation.
	pionLifetime = time.Hour - time.Second
	// pionRenewal is how much of pionLifetime is left at least.
	pionRenewal = 30 * time.Minute
)

// order is one request that pion has to carry out for an allocation.
type order struct {
	method     stun.Method // zero: only ask for a nonce
	allocation *allocation // nil when method is zero
	lifetime   time.Duration
	peer       netip.AddrPort     // of a ChannelBind request, as is
	channel    stun.ChannelNumber // this one

	// done is called with pion's verdict on the goroutine of the front, if it is not nil. What it returns is sent to the
	// client of the allocation.
	done func(ok bool) (answer []byte)

	retried   bool // given to pion a second time
	introduce bool // pion is being told of the allocation, and of the order after that
}

// conversation is the state of the front's talk with pion. pion answers each request before it reads the next message.
type conversation struct {
	orders  []order
	current *order // that pion has been given and not answered
	id      stun.TransactionID
	next    uint64
	nonce   []byte
	control net.UDPAddr // pion's name for the front itself
}

// order has pion carry out o after what was ordered before. It learns of an allocation when there is a channel to keep, which
// for most of the relayed addresses that ICE gathers never comes: see createPermission. Until then there is nothing in pion to
// end.
func (f *front) order(o order) {
	if o.method == stun.MethodRefresh && !o.allocation.known {
		f.finishOrder(o, true)
		return
	}
	f.pion.orders = append(f.pion.orders, o)
}

// nextOrder returns the request for the next order and the address that it comes from in pion's eyes, or nil if there is
// none. The first one, and one after pion has forgotten its nonce, asks for a nonce.
func (f *front) nextOrder() (request []byte, from *net.UDPAddr) {
	c := &f.pion
	if len(c.orders) == 0 {
		return nil, nil
	}
	if c.nonce == nil {
		c.current = &order{}
	} else {
		c.current = new(order)
		*c.current, c.orders = c.orders[0], c.orders[1:]
	}
	o := c.current
	c.next++
	binary.BigEndian.PutUint64(c.id[4:], c.next)
	if o.method == 0 {
		f.inner.Start(stun.MethodAllocate, stun.ClassRequest, c.id)
		return f.inner.Bytes(), &c.control
	}
	b := &f.inner
	if o.introduce = !o.allocation.known; o.introduce {
		b.Start(stun.MethodAllocate, stun.ClassRequest, c.id)
		b.Uint32(stun.AttrRequestedTransport, protocolUDP<<24)
		b.Uint32(stun.AttrLifetime, seconds(pionLifetime))
		return f.signed(b), &o.allocation.handle
	}
	b.Start(o.method, stun.ClassRequest, c.id)
	switch o.method {
	case stun.MethodRefresh:
		b.Uint32(stun.AttrLifetime, seconds(o.lifetime))
	case stun.MethodChannelBind:
		b.Uint32(stun.AttrChannelNumber, uint32(o.channel)<<16)
		b.XORAddress(stun.AttrXORPeerAddress, o.peer)
	}
	return f.signed(b), &o.allocation.handle
}

// signed returns the request in b, signed for pion.
func (f *front) signed(b *stun.Builder) []byte {
	b.Text(stun.AttrUsername, pionUser)
	b.Text(stun.AttrRealm, pionRealm)
	b.Attr(stun.AttrNonce, f.pion.nonce)
	b.MessageIntegrity(f.server.pionKey[:])
	return b.Bytes()
}

// answered takes a response of pion's.
func (f *front) answered(response []byte) {
	c := &f.pion
	m, err := stun.Parse(response)
	if err != nil || c.current == nil || m.TransactionID != c.id {
		f.server.config.Logger.Error("pion sent a response that was not asked for", "err", err)
		return
	}
	if m.Class == stun.ClassSuccess {
		if o := *c.current; o.introduce {
			f.introduced(o)
		} else {
			f.settle(true)
		}
		return
	}
	if nonce := nonceOf(&m); nonce != nil {
		// 401 to the request without credentials, 438 when pion's clock has gone past its nonce.
		c.nonce = append([]byte(nil), nonce...)
		switch o := *c.current; {
		case o.method == 0:
			c.current = nil
			return
		case !o.retried:
			f.retry(o)
			return
		}
	}
	if o := *c.current; o.method == stun.MethodChannelBind && !o.retried {
		// pion looks for a channel by its number and then by its peer. When its timer takes the channel away in between it
		// believes that they are two, and refuses. The second time there is none.
		f.retry(o)
		return
	}
	f.settle(false)
}

// introduced has pion carry out the current order, o, now that it knows the allocation.
func (f *front) introduced(o order) {
	o.allocation.known, o.allocation.pionExpires, o.retried = true, time.Now().Add(pionLifetime), false
	f.again(o)
}

// retry has pion carry out the current order, o, once more.
func (f *front) retry(o order) {
	o.retried = true
	f.again(o)
}

func (f *front) again(o order) {
	f.pion.current = nil
	f.pion.orders = slices.Insert(f.pion.orders, 0, o)
}

func nonceOf(m *stun.Message) []byte {
	for typ, value := range m.Attributes() {
		if typ == stun.AttrNonce {
			return value
		}
	}
	return nil
}

// settle ends the current order, if there is one, with pion's verdict.
func (f *front) settle(ok bool) {
	o := f.pion.current
	f.pion.current = nil
	if o == nil {
		return
	}
	if !ok {
		f.server.counters.pionFailures.Add(1)
		f.server.config.Logger.Error("pion refused a request of the front", "method", o.method.String())
	}
	if o.method != 0 {
		f.finishOrder(*o, ok)
		return
	}
	// Without a nonce nothing can be ordered: do not ask for ever.
	orders := f.pion.orders
	f.pion.orders = nil
	for _, o := range orders {
		f.finishOrder(o, false)
	}
}

// finishOrder tells whoever has ordered o of the verdict, and the client if there is an answer.
func (f *front) finishOrder(o order, ok bool) {
	if o.done == nil {
		return
	}
	if answer := o.done(ok); answer != nil {
		f.reply(answer, o.allocation.client, time.Now())
	}
}
