package handover

// The order of these calls is the encoding. A new version appends to it, under a condition on coder.version; testdata holds a state
// of every version.

func (s *State) code(c *coder) {
	c.instant(&s.At)
	c.duration(&s.Clock)
	c.bytes(&s.NonceKey)
	c.instant(&s.NonceClock)
	c.flag(&s.Paused)
	c.pair(&s.Throttles)
	list(c, &s.Counters, func(v *Counter) { v.code(c) })
	list(c, &s.Accounts, func(v *Account) { c.pair(&v.Packets) })
	list(c, &s.Links, func(v *Link) {
		c.unsigned(&v.Cookie)
		c.addrPort(&v.Listener)
		list(c, &v.Streams, func(s *Stream) { s.code(c) })
		list(c, &v.Allocations, func(a *Allocation) { a.code(c) })
		if c.version >= 2 {
			c.flag(&v.DTLS)
			list(c, &v.Associations, func(a *Association) { a.code(c) })
		}
	})
	list(c, &s.Reservations, func(v *Reservation) {
		c.bytes(&v.Token)
		c.whole(&v.Descriptor)
		c.addrPort(&v.Relayed)
		c.duration(&v.Left)
		c.flag(&v.Looped)
	})
}

func (c *coder) pair(v *[2]int64) {
	c.signed(&v[0])
	c.signed(&v[1])
}

func (v *Counter) code(c *coder) {
	c.text(&v.Name)
	c.unsigned(&v.Value)
}

func (s *Stream) code(c *coder) {
	c.whole(&s.Descriptor)
	c.addrPort(&s.Client)
	c.addrPort(&s.Server)
	c.text(&s.ServerName)
	c.flag(&s.Begun)
	c.bytes(&s.Partial)
	c.bytes(&s.Output)
}

func (a *Association) code(c *coder) {
	c.addrPort(&a.Client)
	c.addrPort(&a.Server)
	c.whole(&a.Suite)
	c.bytes(&a.WriteKey)
	c.bytes(&a.WriteIV)
	c.bytes(&a.ReadKey)
	c.bytes(&a.ReadIV)
	c.unsigned(&a.Next)
	c.unsigned(&a.Received)
	c.unsigned(&a.Window)
	c.bytes(&a.Flight)
}

func (a *Allocation) code(c *coder) {
	c.whole(&a.Stream)
	c.addrPort(&a.Client)
	c.addrPort(&a.Server)
	c.text(&a.Username)
	c.text(&a.Realm)
	c.text(&a.Subject.Name)
	c.text(&a.Subject.Realm)
	c.flag(&a.Subject.Anonymous)
	c.bytes(&a.Key)
	c.instant(&a.Expires)
	c.duration(&a.Withdrawn)
	c.flag(&a.WasWithdrawn)
	c.fixed(a.Made[:])
	c.bytes(&a.Response)
	c.instant(&a.Since)
	c.duration(&a.Heard)
	c.whole(&a.Account)
	c.signed(&a.Requests)
	for d := range a.Rates {
		c.signed(&a.Rates[d].Bits)
		c.signed(&a.Rates[d].Packets)
		c.signed(&a.Rates[d].Share)
	}
	a.Silent.code(c)
	c.flag(&a.Relaying)
	c.unsigned(&a.Relayed)
	c.duration(&a.Active)
	list(c, &a.Addresses, func(v *Address) { v.code(c) })
	list(c, &a.Permissions, func(v *Permission) {
		c.addr(&v.Peer)
		c.duration(&v.Expires)
		c.flag(&v.Heard)
		v.Silent.code(c)
	})
	list(c, &a.Channels, func(v *Channel) {
		c.whole(&v.Number)
		c.addrPort(&v.Peer)
		c.duration(&v.Expires)
	})
}

func (v *Spending) code(c *coder) {
	c.duration(&v.Since)
	c.whole(&v.Bytes)
}

func (v *Address) code(c *coder) {
	c.whole(&v.Descriptor)
	c.addrPort(&v.Relayed)
	c.duration(&v.Expires)
	c.flag(&v.DontFragment)
	c.bytes(&v.Reserved)
	for _, traffic := range [...]*Traffic{&v.ToPeer, &v.ToClient} {
		c.unsigned(&traffic.Packets)
		c.unsigned(&traffic.Bytes)
	}
	list(c, &v.Dropped, func(v *Counter) { v.code(c) })
}
