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
	fd       int
	load     generator.Load
	turns    []frameTurn
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
	frame []byte
}

// frameMessage is struct mmsghdr.
type frameMessage struct {
	header unix.Msghdr
	length uint32
}

// openFrames prepares the frames of calls over UDP. clientPort and peerPort are the ports of the generator.
func (n network) openFrames(l generator.Load, calls []generator.Call, clientPort, peerPort uint16) (*frames, error) {
	own, err := net.InterfaceByName(generatorEnd)
	if err != nil {
		return nil, err
	}
	var servers *net.Interface
	if err := inNetwork(n.namespace, func() (err error) { servers, err = net.InterfaceByName(serverEnd); return err }); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // it receives nothing
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := &frames{fd: fd, load: l}
	err = errors.Join(
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: own.Index})),
		os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("send frames: %w", err), f.close())
	}
	ethernet := append(append(slices.Clone(servers.HardwareAddr), own.HardwareAddr...), 8, 0) // IPv4
	period := time.Duration(l.Burst) * time.Second / time.Duration(l.PPS)
	for _, c := range calls {
		for i, port := range []uint16{clientPort, peerPort} {
			payload := make([]byte, l.Size)
			payload[0] = 0x80 // RTP
			if number := c[i].Channel; number != 0 {
				payload = append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(number)), uint16(l.Size)), payload...)
			}
			frame := append(slices.Clone(ethernet), ipv4(netip.AddrPortFrom(c[i].Local, port), c[i].Remote, payload)...)
			f.turns = append(f.turns, frameTurn{rand.N(period), frame})
		}
	}
	slices.SortFunc(f.turns, func(a, b frameTurn) int { return cmp.Compare(a.at, b.at) })
	return f, nil
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
	f.sent = 0
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
				if err := f.queue(t.frame); err != nil {
					return 0, 0, err
				}
			}
		}
	}
	if err := f.flush(); err != nil {
		return 0, 0, err
	}
	return f.sent, time.Since(begin), ctx.Err()
}

func (f *frames) queue(frame []byte) error {
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

func (f *frames) flush() error {
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

func (f *frames) close() error { return os.NewSyscallError("close", unix.Close(f.fd)) }
