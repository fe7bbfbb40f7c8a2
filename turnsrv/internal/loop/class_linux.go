package loop

import (
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/udp"
)

const (
	// classPatience is how many datagrams of a socket without a traffic class in a row make the loop ask for it only now and then: the
	// kernel takes 40 ns to tell that of a datagram.
	classPatience = 1024
	// classPeriod is the time until the loop asks again, and classSample the number of datagrams for which it then does.
	classPeriod = 2 * time.Second
	classSample = 32
)

// classes decides whether the kernel tells the traffic class of the datagrams of a socket. Until the first ones with a class, and after
// they have paused, a few are relayed without theirs.
type classes struct {
	since time.Duration // when the kernel was last made not to tell it, since Loop.start
	left  int32         // datagrams without a class until then
	told  bool
}

// begin makes the kernel tell the class.
func (c *classes) begin(s *udp.Socket, datagrams int) {
	c.told, c.left = s.TellClass(true) == nil, int32(datagrams)
}

// note handles n datagrams. class is a bitwise or of their classes, and now is the time since Loop.start.
func (c *classes) note(s *udp.Socket, class byte, n int, now time.Duration) {
	switch {
	case class != 0:
		c.left = classPatience
	case c.told:
		if c.left -= int32(n); c.left <= 0 {
			c.told, c.since = s.TellClass(false) != nil, now
		}
	case now-c.since >= classPeriod:
		c.since = now // should begin fail
		c.begin(s, classSample)
	}
}
