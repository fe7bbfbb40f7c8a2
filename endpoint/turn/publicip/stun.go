package publicip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// firstRTO is the delay before the first retransmission, which doubles each time, RFC 8489 section 6.2.1.
const firstRTO = 500 * time.Millisecond

// maxAnswer is the length in bytes of the longest answer that is read.
const maxAnswer = 1500

// askSTUN asks a STUN server from which addresses this machine sends, over both families at once.
func askSTUN(ctx context.Context, host string, port uint16) ([]netip.Addr, error) {
	type answer struct {
		addr netip.Addr
		err  error
	}
	answers := make(chan answer, 2)
	for _, network := range []string{"udp4", "udp6"} {
		go func() {
			addr, err := bind(ctx, network, net.JoinHostPort(host, strconv.Itoa(int(port))))
			answers <- answer{addr, err}
		}()
	}
	var addrs []netip.Addr
	var errs []error
	for range cap(answers) {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		addrs = append(addrs, a.addr)
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	return nil, errors.Join(errs...)
}

// bind makes a Binding request, RFC 8489 section 3. Only the server can answer: the socket is connected, and the transaction ID random.
func bind(ctx context.Context, network, server string) (netip.Addr, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
	var id stun.TransactionID
	_, _ = rand.Read(id[:]) // never fails
	var request stun.Builder
	request.Start(stun.MethodBinding, stun.ClassRequest, id)
	buf := make([]byte, maxAnswer)
	for rto := firstRTO; ; rto *= 2 {
		if _, err := conn.Write(request.Bytes()); err != nil {
			return netip.Addr{}, err
		}
		for again := time.Now().Add(rto); time.Now().Before(again); {
			if err := conn.SetReadDeadline(again); err != nil {
				return netip.Addr{}, err
			}
			if err := context.Cause(ctx); err != nil { // after the deadline was set, which is that of ctx otherwise
				return netip.Addr{}, fmt.Errorf("%s does not answer: %w", server, err)
			}
			n, err := conn.Read(buf)
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				break
			}
			if err != nil {
				return netip.Addr{}, err
			}
			if addr, ok := mapped(buf[:n], id); ok {
				return addr, nil
			}
		}
	}
}

// mapped returns the address in the success response to a request.
func mapped(b []byte, id stun.TransactionID) (netip.Addr, bool) {
	m, err := stun.Parse(b)
	if err != nil || m.Method != stun.MethodBinding || m.Class != stun.ClassSuccess || m.TransactionID != id {
		return netip.Addr{}, false
	}
	for typ, value := range m.Attributes() {
		if typ == stun.AttrXORMappedAddress {
			addr, err := stun.ParseXORAddress(value, id)
			return addr.Addr().Unmap(), err == nil
		}
	}
	return netip.Addr{}, false
}
