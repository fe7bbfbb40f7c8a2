package link

import (
	"context"
	"net"
	"runtime"
)

// Handshakes limits how many TLS handshakes compute at the same time, because each takes as long as a hundred packets: further
// ones wait, so that processors remain for packets. A handshake that waits for its client does not count. Safe for concurrent use.
type Handshakes struct{ slots chan struct{} }

// NewHandshakes returns a limit of half of the processors, and at least one.
func NewHandshakes() *Handshakes {
	return &Handshakes{make(chan struct{}, max(runtime.NumCPU()/2, 1))}
}

// handshake is one handshake under the limit. It is owned by the goroutine that performs it.
type handshake struct {
	ctx   context.Context
	slots chan struct{}
	holds bool // a slot
}

// begin waits for a slot. It returns the error of the context if that is done first.
func (h *handshake) begin() error {
	select {
	case h.slots <- struct{}{}:
		h.holds = true
		return nil
	case <-h.ctx.Done():
		return context.Cause(h.ctx)
	}
}

// end frees the slot, if there is one.
func (h *handshake) end() {
	if h.holds {
		h.holds = false
		<-h.slots
	}
}

// Perform calls f, which performs a handshake on conn. The limit requires that conn is a Conn, embeds one, or is a tls.Conn over
// one; it does not apply to others. A nil limit does not apply to any.
func (h *Handshakes) Perform(ctx context.Context, conn net.Conn, f func(context.Context) error) error {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		if _, ok := over.NetConn().(*Conn); ok {
			conn = over.NetConn()
		}
	}
	limited, ok := conn.(interface{ limit(*handshake) })
	if h == nil || !ok {
		return f(ctx)
	}
	one := &handshake{ctx: ctx, slots: h.slots}
	limited.limit(one)
	defer func() {
		limited.limit(nil)
		one.end()
	}()
	return f(ctx)
}
