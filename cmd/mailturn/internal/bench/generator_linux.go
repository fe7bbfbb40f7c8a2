package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/load"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	// quiet is how long nothing has to come for what is missing to be lost.
	quiet = 300 * time.Millisecond
	// maxBatch is how many packets a socket sends or receives in a system call.
	maxBatch = 128
	// maxPacket is more than the longest packet.
	maxPacket = 2048
)

// generator is both parties of all calls of a workload: one socket is all clients, one all peers. It uses less CPU time than any
// server, in which one system call is for one packet.
type generator struct {
	workload workload
	calls    []call
	begin    time.Time
	byAddr   [2]map[[4]byte]int // the calls, by the address that a packet comes to
	sides    [2]*side           // the peers', to which clients send, and the clients'
}

// The directions of a packet, which are those of call.fill, and the index of the side that gets it.
const (
	toPeer = iota
	toClient
)

// side is one socket, on any address of this machine, with what it has yet to send.
type side struct {
	fd      int
	port    uint16
	out, in batch
	queued  int
	unsent  error // why packets could not be sent

	// Owned by who receives.
	received uint64
	late     load.Histogram
	strange  error // what came and should not have
}

// batch is what sendmmsg(2) and recvmmsg(2) take.
type batch struct {
	messages [maxBatch]message
	parts    [maxBatch]packet
}

type message struct {
	header unix.Msghdr
	length uint32
}

type packet struct {
	iov     unix.Iovec
	addr    unix.RawSockaddrInet4
	control struct {
		header unix.Cmsghdr
		info   unix.Inet4Pktinfo // the address of ours
		_      [4]byte
	}
	data [maxPacket]byte
}

// reset prepares a message of length bytes.
func (b *batch) reset(i, length int) {
	m, p := &b.messages[i].header, &b.parts[i]
	p.iov.Base = &p.data[0]
	p.iov.SetLen(length)
	m.Name, m.Namelen = (*byte)(unsafe.Pointer(&p.addr)), uint32(unsafe.Sizeof(p.addr))
	m.Iov = &p.iov
	m.SetIovlen(1)
	m.Control = (*byte)(unsafe.Pointer(&p.control))
	m.SetControllen(int(unsafe.Sizeof(p.control)))
}

// transfer is sendmmsg or recvmmsg for some of the messages.
func (b *batch) transfer(call uintptr, fd, first, end, flags int) (int, unix.Errno) {
	for {
		r, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[first])), uintptr(end-first), uintptr(flags), 0, 0)
		if errno != unix.EINTR {
			return int(r), errno
		}
	}
}

// newGenerator opens the sockets.
func newGenerator(w workload) (*generator, error) {
	g := &generator{workload: w}
	for i := range g.sides {
		s, err := openSide()
		if err != nil {
			g.close()
			return nil, err
		}
		g.sides[i], g.byAddr[i] = s, make(map[[4]byte]int)
	}
	return g, nil
}

func openSide() (*side, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	const buffer = 4 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer) // as much as there may be
	}
	timeout := unix.NsecToTimeval(quiet.Nanoseconds())
	for _, err := range []error{
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), // see reuseAddr
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(fd, &unix.SockaddrInet4{}),
	} {
		if err != nil {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("open the generator's socket: %w", err)
		}
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	s := &side{fd: fd, port: uint16(addr.(*unix.SockaddrInet4).Port)}
	for i := range maxBatch {
		s.in.reset(i, maxPacket)
	}
	return s, nil
}

// reuseAddr lets a socket share its port with a generator's.
func reuseAddr(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }

// enter has the generator be the parties of calls.
func (g *generator) enter(calls []call) {
	g.calls = calls
	for i := range calls {
		g.byAddr[toPeer][calls[i].peer.As4()] = i
		g.byAddr[toClient][calls[i].client.As4()] = i
	}
}

func (g *generator) clientPort() uint16 { return g.sides[toClient].port }
func (g *generator) peerPort() uint16   { return g.sides[toPeer].port }

func (g *generator) close() {
	for _, s := range g.sides {
		if s != nil {
			_ = unix.Close(s.fd)
		}
	}
}

// run generates the workload for a time, and returns when everything has come or is lost.
func (g *generator) run(ctx context.Context, d time.Duration) (result relayed, err error) {
	g.begin = time.Now()
	if g.workload.pps == 0 {
		result.sent, err = g.fill(ctx, d)
	} else {
		result.sent, err = g.pace(ctx, d)
	}
	for _, s := range g.sides {
		err = errors.Join(err, s.unsent, s.strange)
		result.received += s.received
		result.late.Add(&s.late)
	}
	return result, err
}

// pace sends at the rate of the workload, each party at moments of its own.
func (g *generator) pace(ctx context.Context, d time.Duration) (sent uint64, err error) {
	type turn struct {
		at              time.Duration
		call, direction int
	}
	period := time.Duration(g.workload.burst) * time.Second / time.Duration(g.workload.pps)
	var turns []turn
	for i := range g.calls {
		for direction := range g.sides {
			turns = append(turns, turn{rand.N(period), i, direction})
		}
	}
	slices.SortFunc(turns, func(a, b turn) int { return cmp.Compare(a.at, b.at) })

	var done atomic.Bool
	var receivers sync.WaitGroup
	for to, s := range g.sides {
		receivers.Go(func() {
			for s.strange == nil && (g.receive(to, unix.MSG_WAITFORONE, nil) || !done.Load()) {
			}
		})
	}
	defer receivers.Wait()
	defer done.Store(true)
	runtime.LockOSThread() // for the thread's timer
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
	for start := time.Duration(0); start < d && ctx.Err() == nil; start += period {
		for _, t := range turns {
			if wait := start + t.at - time.Since(g.begin); wait > 0 {
				pause := unix.NsecToTimespec(wait.Nanoseconds())
				_ = unix.Nanosleep(&pause, nil) // that a signal ends it early does no harm
			}
			for range g.workload.burst {
				g.queue(t.call, t.direction)
			}
			g.flush(t.direction)
			sent += uint64(g.workload.burst)
		}
	}
	return sent, ctx.Err()
}

// fill has each party send a packet when the one before has come, or is lost.
func (g *generator) fill(ctx context.Context, d time.Duration) (sent uint64, err error) {
	const none = -1
	var since [2][]time.Duration // when the packet on its way was sent
	under := 0                   // on their way
	send := func(call, direction int) {
		since[direction][call] = g.queue(call, direction)
		under++
		sent++
	}
	for direction := range g.sides {
		since[direction] = make([]time.Duration, len(g.calls))
		for call := range g.calls {
			send(call, direction)
		}
	}
	again := true
	next := func(call, direction int) {
		since[direction][call] = none
		if under--; again {
			send(call, direction)
		}
	}
	for looked := time.Duration(0); under > 0; {
		now := time.Since(g.begin)
		again = now < d && ctx.Err() == nil
		if now-looked > quiet/2 {
			looked = now
			for direction := range g.sides {
				for call, at := range since[direction] {
					if at != none && now-at > quiet {
						next(call, direction)
					}
				}
			}
		}
		came := false
		for direction, s := range g.sides {
			g.flush(direction)
			came = g.receive(direction, unix.MSG_DONTWAIT, func(call int, at time.Duration) {
				if since[direction][call] == at { // else it was taken for lost
					next(call, direction)
				}
			}) || came
			if s.unsent != nil || s.strange != nil {
				return sent, nil
			}
		}
		if !came {
			polled := []unix.PollFd{{Fd: int32(g.sides[0].fd), Events: unix.POLLIN}, {Fd: int32(g.sides[1].fd), Events: unix.POLLIN}}
			_, _ = unix.Poll(polled, int(quiet.Milliseconds()/2))
		}
	}
	return sent, ctx.Err()
}

// queue makes a packet in the direction and returns the time that it bears. What has been queued leaves with flush.
func (g *generator) queue(i, direction int) time.Duration {
	from := g.sides[1-direction]
	if from.queued == maxBatch {
		g.flush(direction)
	}
	one, p := &g.calls[i], &from.out.parts[from.queued]
	to, local, header := one.relayed, one.peer, 0
	if direction == toPeer {
		to, local, header = one.server, one.client, stun.ChannelDataHeaderLen
		binary.BigEndian.PutUint16(p.data[0:], uint16(one.channel))
		binary.BigEndian.PutUint16(p.data[2:], uint16(g.workload.size))
	}
	now := time.Since(g.begin)
	binary.BigEndian.PutUint64(p.data[header:], uint64(now))
	copy(p.data[header+timeLen:], one.fill[direction][timeLen:])
	p.addr = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.addr.Port))[:], to.Port())
	p.control.header.Level, p.control.header.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	p.control.header.SetLen(int(unsafe.Offsetof(p.control.info) + unix.SizeofInet4Pktinfo))
	p.control.info = unix.Inet4Pktinfo{Spec_dst: local.As4()}
	from.out.reset(from.queued, header+g.workload.size)
	from.queued++
	return now
}

// flush sends what is queued in the direction.
func (g *generator) flush(direction int) {
	from := g.sides[1-direction]
	for first := 0; first < from.queued; {
		n, errno := from.out.transfer(unix.SYS_SENDMMSG, from.fd, first, from.queued, 0)
		if errno != 0 {
			from.unsent = fmt.Errorf("send to the server: %w", errno)
			break
		}
		first += n
	}
	from.queued = 0
}

// receive takes what has come in the direction, and reports whether there was anything. came, if not nil, is told the call
// and the time that a packet bears.
func (g *generator) receive(direction, flags int, came func(call int, at time.Duration)) bool {
	s := g.sides[direction]
	n, errno := s.in.transfer(unix.SYS_RECVMMSG, s.fd, 0, maxBatch, flags)
	if errno != 0 {
		if errno != unix.EAGAIN {
			s.strange = fmt.Errorf("receive from the server: %w", errno)
		}
		return false
	}
	now := time.Since(g.begin)
	for i := range n {
		call, at, err := g.check(direction, &s.in.parts[i], int(s.in.messages[i].length))
		if err != nil {
			s.strange = err
			return true
		}
		s.received++
		s.late.Record(now - at)
		if came != nil {
			came(call, at)
		}
		s.in.reset(i, maxPacket)
	}
	return true
}

// check looks whether a packet is one that was sent in the direction, on its call's channel and from its call's relay.
func (g *generator) check(direction int, p *packet, length int) (call int, at time.Duration, err error) {
	call, ok := g.byAddr[direction][p.control.info.Addr]
	if !ok {
		return 0, 0, fmt.Errorf("a packet came to %v, which is nobody's", netip.AddrFrom4(p.control.info.Addr))
	}
	one, data := &g.calls[call], p.data[:length]
	want := one.relayed
	if direction == toClient {
		want = one.server
		var number stun.ChannelNumber
		if number, data, err = stun.ParseChannelData(data); err != nil || number != one.channel {
			return 0, 0, fmt.Errorf("%.20x came on channel %#x", p.data[:length], one.channel)
		}
	}
	from := netip.AddrPortFrom(netip.AddrFrom4(p.addr.Addr), binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&p.addr.Port))[:]))
	if from != want {
		return 0, 0, fmt.Errorf("a packet came from %v instead of %v", from, want)
	}
	if fill := one.fill[direction]; len(data) != len(fill) || !bytes.Equal(data[timeLen:], fill[timeLen:]) {
		return 0, 0, fmt.Errorf("a packet from %v was changed on its way", from)
	}
	return call, time.Duration(binary.BigEndian.Uint64(data)), nil
}

// cpus returns the first and the last of the processors that this process may use.
func cpus() (first, last int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, err
	}
	first = -1
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			if last = i; first < 0 {
				first = i
			}
		}
	}
	return first, last, nil
}

// stayOn keeps the calling goroutine on one processor until leave is called.
func stayOn(cpu int) (leave func(), err error) {
	runtime.LockOSThread()
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, err
	}
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return nil, err
	}
	return func() {
		_ = unix.SchedSetaffinity(0, &before)
		runtime.UnlockOSThread()
	}, nil
}
