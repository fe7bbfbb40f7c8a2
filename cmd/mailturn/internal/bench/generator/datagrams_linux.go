package generator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// datagrams is a side that uses UDP: one socket on all addresses of this machine.
type datagrams struct {
	fd      int
	port    uint16
	out, in batch
	queued  int
	failed  error // why packets could not be sent

	parties []Party
	byLocal map[[4]byte]int // the calls, by the destination address of a packet
}

func openDatagrams() (*datagrams, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	const buffer = 4 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer) // as much as the system allows
	}
	timeout := unix.NsecToTimeval(quiet.Nanoseconds())
	for _, err := range []error{
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), // see Ports
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
	d := &datagrams{fd: fd, port: uint16(addr.(*unix.SockaddrInet4).Port)}
	for i := range maxBatch {
		d.in.reset(i, maxPacket)
	}
	return d, nil
}

// enter makes the socket act as these parties of the calls. It discards what has arrived so far: a program without TURN may still have
// forwarded packets of the calls before.
func (d *datagrams) enter(calls []Call, party int) error {
	for {
		if _, _, err := unix.Recvfrom(d.fd, nil, unix.MSG_DONTWAIT); err == unix.EAGAIN {
			break
		} else if err != nil && err != unix.EINTR {
			return fmt.Errorf("discard what has arrived: %w", err)
		}
	}
	d.parties = make([]Party, len(calls))
	d.byLocal = make(map[[4]byte]int, len(calls))
	for i := range calls {
		p := calls[i][party]
		if !p.Local.Is4() || !p.Remote.Addr().Is4() {
			return fmt.Errorf("call %d: from %v to %v is not IPv4", i, p.Local, p.Remote)
		}
		d.parties[i] = p
		d.byLocal[p.Local.As4()] = i
	}
	return nil
}

func (d *datagrams) descriptor() int { return d.fd }
func (d *datagrams) close()          { _ = unix.Close(d.fd) }

func (d *datagrams) payload(call, size int) []byte {
	if d.queued == maxBatch {
		d.failed = errors.Join(d.failed, d.flush())
	}
	p, one := &d.out.parts[d.queued], &d.parties[call]
	header := 0
	if one.Channel != 0 {
		header = stun.ChannelDataHeaderLen
		binary.BigEndian.PutUint16(p.data[0:], uint16(one.Channel))
		binary.BigEndian.PutUint16(p.data[2:], uint16(size))
	}
	p.addr = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: one.Remote.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&p.addr.Port))[:], one.Remote.Port())
	p.control.header.Level, p.control.header.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	p.control.header.SetLen(int(unsafe.Offsetof(p.control.info) + unix.SizeofInet4Pktinfo))
	p.control.info = unix.Inet4Pktinfo{Spec_dst: one.Local.As4()}
	d.out.reset(d.queued, header+size)
	d.queued++
	return p.data[header : header+size]
}

func (d *datagrams) flush() error {
	end := d.queued
	d.queued = 0
	for first := 0; first < end; {
		n, errno := d.out.transfer(unix.SYS_SENDMMSG, d.fd, first, end, 0)
		if errno != 0 {
			return errno
		}
		first += n
	}
	return d.failed
}

func (d *datagrams) receive(wait bool, came func(call int, payload []byte) error) (bool, error) {
	flags := unix.MSG_DONTWAIT
	if wait {
		flags = unix.MSG_WAITFORONE
	}
	n, errno := d.in.transfer(unix.SYS_RECVMMSG, d.fd, 0, maxBatch, flags)
	if errno != 0 {
		if errno == unix.EAGAIN {
			return false, nil
		}
		return false, errno
	}
	for i := range n {
		call, payload, err := d.open(&d.in.parts[i], int(d.in.messages[i].length))
		if err == nil {
			err = came(call, payload)
		}
		if err != nil {
			return true, err
		}
		d.in.reset(i, maxPacket)
	}
	return true, nil
}

// open finds the call of a packet, and removes the ChannelData header.
func (d *datagrams) open(p *packet, length int) (call int, payload []byte, err error) {
	call, ok := d.byLocal[p.control.info.Addr]
	if !ok {
		return 0, nil, fmt.Errorf("a packet came to %v, which is nobody's", netip.AddrFrom4(p.control.info.Addr))
	}
	want := &d.parties[call]
	payload = p.data[:length]
	if want.Channel != 0 {
		number, data, err := stun.ParseChannelData(payload)
		if err != nil || number != want.Channel {
			return 0, nil, fmt.Errorf("%.20x came on channel %#x", payload, want.Channel)
		}
		payload = data
	}
	from := netip.AddrPortFrom(netip.AddrFrom4(p.addr.Addr), binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&p.addr.Port))[:]))
	if from != want.Remote {
		return 0, nil, fmt.Errorf("a packet came from %v instead of %v", from, want.Remote)
	}
	return call, payload, nil
}
