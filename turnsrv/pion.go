package turnsrv

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// maxMessageLen is more than the longest message, which is one of STUN's with 65532 bytes of attributes. pion drops what
// fills its buffer, so there is one byte more.
const maxMessageLen = stun.HeaderLen + 65536 + 1

// pionConn is the front as pion sees it: a socket on which pion's server reads, and a generator of relayed addresses.
type pionConn struct{ *front }

// startPion starts a server of pion's on f. It ends when ReadFrom fails.
func startPion(f *front) error {
	conn := pionConn{f}
	f.pion.control = net.UDPAddr{IP: net.IPv6unspecified, Port: 1}
	_, err := turn.NewServer(turn.ServerConfig{
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: conn, RelayAddressGenerator: conn}},
		LoggerFactory:     pionLogger{f.server.config.Logger},
		Realm:             pionRealm,
		AuthHandler: func(username, realm string, _ net.Addr) ([]byte, bool) {
			return f.server.pionKey[:], username == pionUser && realm == pionRealm
		},
		ChannelBindTimeout: channelLifetime,
		InboundMTU:         maxMessageLen,
		EventHandler: turn.EventHandler{
			// OnPermissionCreated stays nil: pion calls it between making a permission known and giving it a timer.
			OnAllocationDeleted: func(src, _ net.Addr, _, _, _ string) {
				f.notify(src.(*net.UDPAddr))
			},
		},
	})
	if err != nil {
		return fmt.Errorf("start pion: %w", err)
	}
	return nil
}

// ReadFrom gives pion the next thing to do. It is where the front lives: it returns an order, and meanwhile relays data and
// answers everything that pion need not know of. It fails once the front is closing and all of its allocations have ended.
func (c pionConn) ReadFrom(p []byte) (int, net.Addr, error) {
	f := c.front
	f.settle(false) // pion returned without an answer
	for {
		f.readNotices()
		if request, from := f.nextOrder(); request != nil {
			return copy(p, request), from, nil
		}
		if f.isClosing() {
			if len(f.allocations) == 0 {
				close(f.done)
				return 0, nil, net.ErrClosed
			}
			for _, a := range f.allocations {
				f.endAll(a, EndedServer)
			}
			continue
		}
		n, from, err := f.link.receive(p)
		switch {
		case errors.Is(err, errAlarm):
			f.onAlarm(time.Now())
			continue
		case errors.Is(err, errGone):
			if a := f.allocations[from]; a != nil {
				f.endAll(a, EndedConnection)
			}
			continue
		case err != nil:
			f.failure = err
			f.close()
			continue
		}
		now := time.Now()
		if answer := f.fromClient(p[:n], from, now); answer != nil {
			f.reply(answer, from, now)
		}
	}
}

// WriteTo takes what pion sends to a client, which is responses to orders only: data does not pass through pion.
func (c pionConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	c.answered(b)
	return len(b), nil
}

// LocalAddr returns an address that means nothing and is the same for all of the front.
func (c pionConn) LocalAddr() net.Addr { return &c.local }

// Close ends the front.
func (c pionConn) Close() error { c.close(); return nil }

// SetDeadline does nothing: pion sets none, and the read deadline is the front's.
func (pionConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (pionConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (pionConn) SetWriteDeadline(time.Time) error { return nil }

// Validate implements turn.RelayAddressGenerator.
func (pionConn) Validate() error { return nil }

// AllocatePacketConn gives pion the relayed address that the front opened for the order in hand.
func (c pionConn) AllocatePacketConn(string, int) (net.PacketConn, net.Addr, error) {
	o := c.pion.current
	if o == nil || !o.introduce {
		return nil, nil, errors.New("no allocation was ordered")
	}
	c.byHandle.Store(&o.allocation.handle, o.allocation)
	return o.allocation.relay, net.UDPAddrFromAddrPort(o.allocation.relay.Relayed()), nil
}

// AllocateConn is for RFC 6062, which is not offered.
func (pionConn) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errors.New("no TCP relay")
}

// close asks the front to end. Safe for concurrent use.
func (f *front) close() {
	f.closeOnce.Do(func() { close(f.closing) })
	f.link.wake()
}

func (f *front) isClosing() bool {
	select {
	case <-f.closing:
		return true
	default:
		return false
	}
}

// pionLogger passes on what pion takes for errors. Whatever else it says repeats what the front knows better.
type pionLogger struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (l pionLogger) NewLogger(string) logging.LeveledLogger { return l }

// Trace and the others implement logging.LeveledLogger.
func (pionLogger) Trace(string)          {}
func (pionLogger) Tracef(string, ...any) {}
func (pionLogger) Debug(string)          {}
func (pionLogger) Debugf(string, ...any) {}
func (pionLogger) Info(string)           {}
func (pionLogger) Infof(string, ...any)  {}

// Warn and Error are for someone who looks for a fault.
func (l pionLogger) Warn(m string)            { l.log.Debug("pion warns", "err", m) }
func (l pionLogger) Warnf(m string, a ...any) { l.log.Debug("pion warns", "err", fmt.Sprintf(m, a...)) }
func (l pionLogger) Error(m string)           { l.log.Debug("pion reports an error", "err", m) }
func (l pionLogger) Errorf(m string, a ...any) {
	l.log.Debug("pion reports an error", "err", fmt.Sprintf(m, a...))
}
