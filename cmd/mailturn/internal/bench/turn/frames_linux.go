package turn

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
)

// frames sends the packets of calls as ready Ethernet frames, past the sockets and the IP stack of their senders. That costs a fraction
// of what the generator needs, so less must be subtracted to learn what a server costs.
type frames struct {
	load  generator.Load
	from  [2]frameSender // by the party
	turns []frameTurn
}

// frameSender sends frames over an interface.
type frameSender struct {
	fd       int
	messages [frameBatch]frameMessage
	parts    [frameBatch]unix.Iovec
	queued   int
	sent     uint64
}

const (
	// frameBatch is how many frames a system call sends.
	frameBatch = 64
	// frameTick is how often frames are sent. Those of different parties that are due by then share a system call.
	frameTick = 250 * time.Microsecond
)

// frameTurn is when, in each period, a party sends its frame.
type frameTurn struct {
	at    time.Duration
	party int
	frame []byte
}

// frameMessage is struct mmsghdr.
type frameMessage struct {
	header unix.Msghdr
	length uint32
}

// openFrames prepares the frames of calls over UDP. clientPort and peerPort are the ports of the generator.
func (n network) openFrames(l generator.Load, calls []generator.Call, clientPort, peerPort uint16) (*frames, error) {
	f := &frames{load: l}
	for i := range f.from {
		f.from[i].fd = -1
	}
	var headers [2][]byte // of Ethernet, by the party
	ends, serverEnds := n.generatorEnds(), n.serverEnds()
	for i := range f.from {
		own, fd, err := ends[i].openRaw()
		f.from[i].fd = fd
		var server net.Interface
		if err == nil {
			server, err = serverEnds[i].find()
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("send frames: %w", err), f.close())
		}
		headers[i] = append(append(slices.Clone(server.HardwareAddr), own.HardwareAddr...), 8, 0) // IPv4
	}
	period := time.Duration(l.Burst) * time.Second / time.Duration(l.PPS)
	for _, c := range calls {
		for i, port := range []uint16{clientPort, peerPort} {
			payload := make([]byte, l.Size)
			payload[0] = 0x80 // RTP
			if number := c[i].Channel; number != 0 {
				payload = append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(number)), uint16(l.Size)), payload...)
			}
			frame := append(slices.Clone(headers[i]), ipv4(netip.AddrPortFrom(c[i].Local, port), c[i].Remote, payload)...)
			f.turns = append(f.turns, frameTurn{rand.N(period), i, frame})
		}
	}
	slices.SortFunc(f.turns, func(a, b frameTurn) int { return cmp.Compare(a.at, b.at) })
	return f, nil
}

// find returns the interface.
func (e wireEnd) find() (i net.Interface, err error) {
	err = generator.InNamespace(e.namespace, func() error {
		found, err := net.InterfaceByName(e.name)
		if err == nil {
			i = *found
		}
		return err
	})
	return i, err
}

// openRaw returns the interface, and a socket that sends frames over it and receives nothing, or -1.
func (e wireEnd) openRaw() (i net.Interface, fd int, err error) {
	if i, err = e.find(); err != nil {
		return i, -1, err
	}
	err = generator.InNamespace(e.namespace, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return i, -1, err
	}
	return i, fd, errors.Join(
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index})),
		os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)))
}

// ipv4 returns an IPv4 packet with a UDP datagram.
func ipv4(from, to netip.AddrPort, payload []byte) []byte {
	length := uint16(8 + len(payload))
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from.Port()), to.Port())
	addresses := append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
	udp := append(binary.BigEndian.AppendUint16(ports, length), 0, 0)
	udp = append(udp, payload...)
	pseudo := binary.BigEndian.AppendUint16(append(slices.Clone(addresses), 0, unix.IPPROTO_UDP), length)
	binary.BigEndian.PutUint16(udp[6:], cmp.Or(checksum(append(pseudo, udp...)), 0xffff))
	header := append(binary.BigEndian.AppendUint16([]byte{0x45, 0}, 20+length), 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0)
	header = append(header, addresses...)
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	return append(header, udp...)
}

// checksum returns the checksum of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i, c := range b {
		sum += uint32(c) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// run sends at the rate of the load. It returns how many frames were sent, and how long that took.
func (f *frames) run(ctx context.Context, d time.Duration) (sent uint64, took time.Duration, err error) {
	period := time.Duration(f.load.Burst) * time.Second / time.Duration(f.load.PPS)
	for i := range f.from {
		f.from[i].sent = 0
	}
	begin := time.Now()
	for start := time.Duration(0); start < d && ctx.Err() == nil; start += period {
		for _, t := range f.turns {
			if wait := start + t.at - time.Since(begin); wait > 0 {
				if err := f.flush(); err != nil {
					return 0, 0, err
				}
				pause := unix.NsecToTimespec(max(wait, frameTick).Nanoseconds())
				_ = unix.Nanosleep(&pause, nil) // a signal may end it early, which does no harm
			}
			for range f.load.Burst {
				if err := f.from[t.party].queue(t.frame); err != nil {
					return 0, 0, err
				}
			}
		}
	}
	if err := f.flush(); err != nil {
		return 0, 0, err
	}
	return f.from[0].sent + f.from[1].sent, time.Since(begin), ctx.Err()
}

// flush sends the queued frames.
func (f *frames) flush() error { return errors.Join(f.from[0].flush(), f.from[1].flush()) }

func (f *frameSender) queue(frame []byte) error {
	m, part := &f.messages[f.queued].header, &f.parts[f.queued]
	part.Base = &frame[0]
	part.SetLen(len(frame))
	m.Iov = part
	m.SetIovlen(1)
	if f.queued++; f.queued == frameBatch {
		return f.flush()
	}
	return nil
}

func (f *frameSender) flush() error {
	for first := 0; first < f.queued; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&f.messages[first])), uintptr(f.queued-first), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return fmt.Errorf("send frames: %w", errno)
		}
		first += int(n)
		f.sent += uint64(n)
	}
	f.queued = 0
	return nil
}

// close closes the sockets.
func (f *frames) close() error {
	var errs []error
	for i := range f.from {
		if fd := f.from[i].fd; fd >= 0 {
			errs = append(errs, os.NewSyscallError("close", unix.Close(fd)))
		}
	}
	return errors.Join(errs...)
}
