package e2e

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dataCount counts the messages with data for or from peers (ChannelData, Send and Data indications) on a user's link, over UDP and
// IPv4, and remembers when they passed.
type dataCount struct {
	mu                 sync.Mutex
	sent, received     int
	sentAt, receivedAt map[packetTag]time.Time // of ChannelData
}

// packetTag is the end of a packet of SRTP or DTLS, by which it can be told from others: it is encrypted or a message authentication code.
type packetTag [16]byte

// countData counts on the user's link until the test ends.
func (ns namespace) countData(t *testing.T) *dataCount {
	t.Helper()
	fd := -1
	ns.do(t, func() {
		link, err := net.InterfaceByName("uplink")
		if err == nil {
			fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		}
		if err == nil {
			const all = uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8) // in network byte order
			err = errors.Join(
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
				unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
		}
		if err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	d, stop := &dataCount{sentAt: make(map[packetTag]time.Time), receivedAt: make(map[packetTag]time.Time)}, make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		packet, control := make([]byte, 2048), make([]byte, 128)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, oobn, _, from, err := unix.Recvmsg(fd, packet, control, 0)
			if err == nil {
				d.count(packet[:n], from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING, timestamp(control[:oobn]))
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		reading.Wait()
		if statistics, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err != nil || statistics.Drops > 0 {
			t.Errorf("the test has not seen all packets: %+v, %v", statistics, err)
		}
		_ = unix.Close(fd)
	})
	return d
}

// timestamp returns when the kernel received a packet.
func timestamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		if err == nil && m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			at := *(*unix.Timespec)(unsafe.Pointer(unsafe.SliceData(m.Data)))
			return time.Unix(at.Unix())
		}
	}
	return time.Now()
}

func (d *dataCount) count(packet []byte, out bool, at time.Time) {
	const ipv4 = 20 // bytes of its header, which has no options here
	if len(packet) < ipv4+8+4 || packet[0] != 0x45 || packet[9] != unix.IPPROTO_UDP {
		return
	}
	message := packet[ipv4+8:]
	channel := message[0]&0xf0 == 0x40
	var tag packetTag
	copy(tag[:], message[max(0, len(message)-len(tag)):])
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case out && channel:
		d.sent++
		d.sentAt[tag] = at
	case out && message[0] == 0 && message[1] == 0x16: // Send indication
		d.sent++
	case !out && channel:
		d.received++
		d.receivedAt[tag] = at
	case !out && message[0] == 0 && message[1] == 0x17: // Data indication
		d.received++
	}
}

// counts returns how many messages the user has sent and received.
func (d *dataCount) counts() (sent, received int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sent, d.received
}

// takeDelay returns the longest time that a packet took from one user to another, since the last call.
func takeDelay(from, to *dataCount) (longest time.Duration) {
	from.mu.Lock()
	defer from.mu.Unlock()
	to.mu.Lock()
	defer to.mu.Unlock()
	for tag, received := range to.receivedAt {
		if sent, ok := from.sentAt[tag]; ok {
			longest = max(longest, received.Sub(sent))
		}
	}
	clear(from.sentAt)
	clear(to.receivedAt)
	return longest
}
