package generator

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// quiet is how long nothing arrives before missing packets are considered lost.
const quiet = 300 * time.Millisecond

// A Generator acts as all parties of some calls.
type Generator struct {
	load  Load
	sides [2]side
	begin time.Time
	took  time.Duration
	flows [2][]flow // by the direction and the call
	heard [2]heard  // by the direction
}

// flow is what one party of a call receives.
type flow struct {
	fill []byte // the payload; the first headerLen bytes differ between packets
	sent uint64

	// Owned by the goroutine that receives in this direction.
	seen window
}

// heard counts what has arrived in a direction. It is owned by the goroutine that receives there.
type heard struct {
	result Result
	err    error
}

// side is all parties of one kind.
type side interface {
	// payload queues a packet of the call's party, and returns the buffer for its payload.
	payload(call, size int) []byte
	// flush sends the queued packets.
	flush() error
	// receive calls came with the payload of each packet that has arrived. If there is none, it may wait for up to quiet, and then
	// returns false if nothing has arrived.
	receive(wait bool, came func(call int, payload []byte) error) (bool, error)
	// descriptor returns the descriptor that poll(2) reports as readable when something has arrived.
	descriptor() int
	close()
}

// New opens the sockets for a load, except those of streams. The sockets of the peers are in the network namespace that the file peers
// leads to, or in that of this process if it is empty.
func New(l Load, peers string) (*Generator, error) {
	if l.Size < MinSize || l.Size > MaxSize {
		return nil, fmt.Errorf("payloads of %d bytes: want %d to %d", l.Size, MinSize, MaxSize)
	}
	g := &Generator{load: l}
	for i, namespace := range [2]string{Client: "", Peer: peers} {
		err := InNamespace(namespace, func() error {
			s, err := openDatagrams()
			if err == nil {
				g.sides[i] = s
			}
			return err
		})
		if err != nil {
			g.Close()
			return nil, err
		}
	}
	return g, nil
}

// Ports returns the UDP ports of the clients and of the peers, on every address of this machine. Another socket may share them with
// the option SO_REUSEADDR; until it is closed, it receives what arrives at its address.
func (g *Generator) Ports() (clients, peers uint16) {
	return g.sides[Client].(*datagrams).port, g.sides[Peer].(*datagrams).port
}

// Enter tells the generator which parties it acts as. Either all clients have streams, or all have associations, or none has either.
func (g *Generator) Enter(calls []Call) error {
	if len(calls) > 0 && calls[0][Client].Stream != nil {
		s, err := newStreams(calls)
		if err != nil {
			return err
		}
		g.sides[Client].close()
		g.sides[Client] = s
	}
	if len(calls) > 0 && calls[0][Client].Association != nil {
		s, err := newAssociations(calls)
		if err != nil {
			return err
		}
		g.sides[Client].close()
		g.sides[Client] = s
	}
	for i, s := range g.sides {
		if d, ok := s.(*datagrams); ok {
			if err := d.enter(calls, i); err != nil {
				return err
			}
		}
		g.flows[i] = make([]flow, len(calls))
		for j := range g.flows[i] {
			g.flows[i][j].fill = make([]byte, g.load.Size)
			_, _ = rand.Read(g.flows[i][j].fill) // never fails
		}
	}
	return nil
}

// Close closes all sockets and streams.
func (g *Generator) Close() {
	for i, s := range g.sides {
		if s != nil {
			s.close()
		}
		g.sides[i] = nil
	}
}

// Run sends the load for the given time, and returns when everything has arrived or is lost. Its error is that of a system call, or
// describes an invalid packet.
func (g *Generator) Run(ctx context.Context, d time.Duration) (Result, error) {
	g.heard = [2]heard{}
	before := g.sent()
	g.begin = time.Now()
	var err error
	if g.load.PPS == 0 {
		err = g.saturate(ctx, d)
	} else {
		err = g.pace(ctx, d)
	}
	result := Result{Sent: g.sent() - before, Took: g.took}
	for i := range g.heard {
		err = errors.Join(err, g.heard[i].err)
		result.Received += g.heard[i].result.Received
		result.Late.Add(&g.heard[i].result.Late)
	}
	return result, err
}

// sent returns the number of packets sent since Enter.
func (g *Generator) sent() (total uint64) {
	for i := range g.flows {
		for j := range g.flows[i] {
			total += g.flows[i][j].sent
		}
	}
	return total
}

// queue queues a packet in the direction, until the side that sends is flushed.
func (g *Generator) queue(call, direction int) {
	f := &g.flows[direction][call]
	b := g.sides[1-direction].payload(call, g.load.Size)
	binary.BigEndian.PutUint64(b, uint64(time.Since(g.begin)))
	binary.BigEndian.PutUint64(b[8:], f.sent)
	copy(b[headerLen:], f.fill[headerLen:])
	f.sent++
}

// flush sends the packets queued in the direction.
func (g *Generator) flush(direction int) error {
	if err := g.sides[1-direction].flush(); err != nil {
		return fmt.Errorf("send to the server: %w", err)
	}
	return nil
}

// receive processes the packets that have arrived in the direction, and reports whether there were any. It calls came, if not nil,
// with the call of each packet.
func (g *Generator) receive(direction int, wait bool, came func(call int)) bool {
	h := &g.heard[direction]
	now := time.Duration(-1)
	any, err := g.sides[direction].receive(wait, func(call int, payload []byte) error {
		if now < 0 {
			now = time.Since(g.begin) // for all packets of a system call
		}
		at, err := g.check(call, direction, payload)
		if err != nil {
			return err
		}
		h.result.Received++
		h.result.Late.Record(now - at)
		if came != nil {
			came(call)
		}
		return nil
	})
	if err != nil {
		h.err = fmt.Errorf("receive from the server: %w", err)
	}
	return any
}

// check verifies that a payload was sent in the direction, and has not arrived before. It returns when it was sent.
func (g *Generator) check(call, direction int, payload []byte) (at time.Duration, err error) {
	f := &g.flows[direction][call]
	if len(payload) != len(f.fill) || !bytes.Equal(payload[headerLen:], f.fill[headerLen:]) {
		return 0, fmt.Errorf("call %d: a packet was changed on its way", call)
	}
	if number := binary.BigEndian.Uint64(payload[8:]); !f.seen.first(number) {
		return 0, fmt.Errorf("call %d: packet %d came twice, or very late", call, number)
	}
	return time.Duration(binary.BigEndian.Uint64(payload)), nil
}
