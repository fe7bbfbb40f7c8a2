package probe

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxPacket is the largest payload tried, in bytes. With the headers of TURN, UDP and IPv6, it fits into one Ethernet packet.
	maxPacket = 1400
	// callPacket is the size in bytes of the largest packets that WebRTC sends in a call: those of video.
	callPacket = 1200
	// sizesAtATime is how many sizes are tried in one round.
	sizesAtATime = 10
	// sizeInterval is the time between two packets of a round.
	sizeInterval = 5 * time.Millisecond
)

// sizeSearch finds the largest payload that reaches a peer and comes back. Payloads of echoSize bytes are known to.
type sizeSearch struct {
	mark [8]byte // the beginning of its packets

	mu      sync.Mutex // guards largest
	largest int
	larger  chan struct{} // receives an element when largest has grown
}

func newSizeSearch() *sizeSearch {
	s := &sizeSearch{largest: echoSize, larger: make(chan struct{}, 1)}
	_, _ = rand.Read(s.mark[:]) // never fails
	return s
}

// received records a packet that has come back.
func (s *sizeSearch) received(payload []byte) {
	if len(payload) < len(s.mark) || [8]byte(payload) != s.mark {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(payload) <= s.largest || len(payload) > maxPacket {
		return
	}
	s.largest = len(payload)
	select {
	case s.larger <- struct{}{}:
	default:
	}
}

func (s *sizeSearch) best() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.largest
}

// run tries maxPacket and, if that does not come back, sizes between the largest that does and the smallest that does not, until
// the two meet. It sends each size copies times, because packets are also lost for other reasons. A round lasts until its largest
// size has come back, or for patience after its last packet. run returns the largest payload that came back, or 0 if ctx ended
// first. An error of send counts as the loss of that size.
func (s *sizeSearch) run(ctx context.Context, copies int, patience time.Duration, send func(payload []byte) error) int {
	for tooLarge, sizes := maxPacket+1, []int{maxPacket}; ; sizes = between(s.best(), tooLarge) {
		s.round(ctx, sizes, copies, patience, send)
		best := s.best()
		for _, size := range sizes {
			if size > best {
				tooLarge = size
				break
			}
		}
		switch {
		case ctx.Err() != nil:
			return 0
		case best+1 >= tooLarge:
			return best
		}
	}
}

// between returns up to sizesAtATime sizes above low and below high, in ascending order.
func between(low, high int) (sizes []int) {
	step := max(1, (high-low)/(sizesAtATime+1))
	for size := low + step; size < high && len(sizes) < sizesAtATime; size += step {
		sizes = append(sizes, size)
	}
	return sizes
}

// round sends each of the sizes and waits for those that come back.
func (s *sizeSearch) round(ctx context.Context, sizes []int, copies int, patience time.Duration, send func(payload []byte) error) {
	ticker := time.NewTicker(sizeInterval)
	defer ticker.Stop()
	payload := make([]byte, maxPacket)
	copy(payload, s.mark[:])
	for range copies {
		for _, size := range sizes {
			if size <= s.best() {
				continue
			}
			_ = send(payload[:size])
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for s.best() < sizes[len(sizes)-1] {
		select {
		case <-s.larger:
		case <-deadline.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// sizeCopies is how often each size is sent.
func (d Depth) sizeCopies() int { return [...]int{Normal: 4, Quick: 3, Thorough: 10}[d] }

// sizePatience returns how long to wait for packets of a size if small ones took the times in e.
func (d Depth) sizePatience(e *Echo) time.Duration {
	return min(d.patience(), 400*time.Millisecond+3*time.Duration(e.MaxMS*float64(time.Millisecond)))
}

// ipBytes is the length of the IP packet that carries a payload in ChannelData to an address: 4 bytes of RFC 8656 section
// 12.4, 8 of UDP, and the header of IPv4 or IPv6.
func ipBytes(to netip.Addr, payload int) int {
	if to.Is4() {
		return payload + 4 + 8 + 20
	}
	return payload + 4 + 8 + 40
}

// packetSizeAction is what to do if large packets are lost.
const packetSizeAction = "Look for a firewall that drops large UDP packets, and for a tunnel or PPPoE line with a smaller MTU where ICMP is blocked. Probe from another network to find out on which side it is."

// judgePacketSize adds a check of the largest packets that pass through an allocation.
func (r *run) judgePacketSize(a *attempt) {
	const id = "turn.packet_size"
	loss := func(where string, largest int) {
		r.report.add(id, a.subject(), Warning, fmt.Sprintf("packets of more than %d bytes get lost between here and %s: voice works, but video, with packets of %d bytes, stays black.",
			largest, where, callPacket), packetSizeAction)
	}
	switch e := a.RelayToRelay; {
	case e == nil || e.Received == 0 || a.Transport != UDP:
	case e.LargestBytes == 0:
		r.report.notTested("larger packets")
	case e.LargestBytes < callPacket:
		loss(fmt.Sprintf("%s (path MTU %d)", a.subject(), a.PathMTU), e.LargestBytes)
		return
	case e.LargestBytes < maxPacket:
		r.report.add(id, a.subject(), OK, fmt.Sprintf("%s carries packets of up to %d bytes: path MTU %d.", a.subject(), e.LargestBytes, a.PathMTU), "")
	default:
		r.report.add(id, a.subject(), OK, fmt.Sprintf("%s carries packets of %d bytes: path MTU %d or more.", a.subject(), maxPacket, a.PathMTU), "")
	}
	switch e := a.Direct; {
	case e == nil || e.Received == 0:
	case e.LargestBytes == 0:
		r.report.notTested("larger packets from outside")
	case e.LargestBytes < callPacket:
		loss("the relayed address "+a.RelayedAddr, e.LargestBytes)
	}
}
