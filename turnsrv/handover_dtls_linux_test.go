package turnsrv

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/stun"
	"github.com/pion/dtls/v3"
)

// dtlsSuites are cipher suites that differ in how they protect records.
var dtlsSuites = []dtls.CipherSuiteID{
	dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	dtls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}

// TestHandOverOfDamagedDTLS damages the keys of one of two DTLS associations: that one ends, and is counted. The other one goes on, and
// so does a client over UDP.
func TestHandOverOfDamagedDTLS(t *testing.T) {
	far := udp.AddrPortOf(echo(t))
	for name, damage := range map[string]func(*handover.Association){
		"key":         func(a *handover.Association) { a.WriteKey = a.WriteKey[1:] },
		"vector":      func(a *handover.Association) { a.ReadIV = append(a.ReadIV, 0) },
		"suite":       func(a *handover.Association) { a.Suite = 0x1301 },
		"number":      func(a *handover.Association) { a.Next = 1 << 48 },
		"last flight": func(a *handover.Association) { a.Flight = make([]byte, 1<<16) },
		"address":     func(a *handover.Association) { a.Server = netip.AddrPort{} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSuccession(t, 1, testConfig(t))
			clients := []*rawClient{dialDTLS(t, s.udp), dialDTLS(t, s.udp), dial(t, "udp", s.udp)}
			for _, c := range clients {
				c.allocate()
				c.want(c.request(stun.MethodChannelBind, turntest.PeerAddr(far), turntest.Channel(0x4000)), 0)
			}
			damaged := udp.AddrPortOf(clients[0].conn.LocalAddr())
			s.change = func(b []byte) []byte {
				state, err := handover.Decode(b)
				if err != nil {
					t.Fatal(err)
				}
				for i := range state.Links {
					for j := range state.Links[i].Associations {
						if a := &state.Links[i].Associations[j]; a.Client == damaged {
							damage(a)
						}
					}
				}
				if b, err = handover.Encode(state, StateVersion); err != nil {
					t.Fatal(err)
				}
				return b
			}
			s.handOver(testConfig(t))
			clients[0].write(turntest.ChannelData(0x4000, "x")) // before the others on the same socket
			for _, c := range clients[1:] {
				c.write(turntest.ChannelData(0x4000, "x"))
				if _, data, err := stun.ParseChannelData(c.read()); err != nil || string(data) != "x" {
					t.Errorf("a client that was taken over got %q, %v", data, err)
				}
			}
			if b, err := clients[0].tryRead(time.Millisecond); err == nil {
				t.Errorf("a client that was not taken over got %x", b)
			}
			c := s.current.Counters()
			if c.Allocations != 2 || c.AllocationsEnded[event.EndedByUpgrade] != 1 || c.Streams != 1 {
				t.Errorf("%d allocations, %d ended, and %d associations; want 2, 1 and 1", c.Allocations,
					c.AllocationsEnded[event.EndedByUpgrade], c.Streams)
			}
		})
	}
}

// TestHandOverOfDTLSToFormerVersion hands over to a server that reads only version 1 of the state, which has no associations: the
// client is told that its association ends, and its allocation is counted.
func TestHandOverOfDTLSToFormerVersion(t *testing.T) {
	s := newSuccession(t, 1, testConfig(t))
	c, plain := dialDTLS(t, s.udp), dial(t, "udp", s.udp)
	c.allocate()
	plain.allocate()
	s.version = 1
	s.handOver(testConfig(t))
	if b, err := c.tryRead(5 * time.Second); b != nil || err != nil {
		t.Errorf("got %x, %v instead of a close_notify", b, err)
	}
	plain.want(plain.request(stun.MethodRefresh), 0)
	counters := s.current.Counters()
	if counters.Allocations != 1 || counters.AllocationsEnded[event.EndedByUpgrade] != 1 || counters.Streams != 0 {
		t.Errorf("%d allocations, %d ended, and %d associations; want 1, 1 and none", counters.Allocations,
			counters.AllocationsEnded[event.EndedByUpgrade], counters.Streams)
	}
	dialDTLS(t, s.udp).allocate()
}

// TestFailedHandOverOfDTLS lets a successor restore an association and end without having begun. It must send nothing: the client would
// believe a close_notify, and a number that both processes have used would reveal keys.
func TestFailedHandOverOfDTLS(t *testing.T) {
	s := newSuccession(t, 1, testConfig(t))
	c := dialDTLS(t, s.udp)
	c.allocate()
	for range 3 {
		config := testConfig(t)
		config.Successor = true
		next := s.serve(config)
		suspended, err := s.current.Suspend(StateVersion)
		if err != nil {
			t.Fatal(err)
		}
		state, descriptors, err := suspended.State()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := next.Restore(ctx, state, s.duplicates(descriptors)); err != nil {
			t.Fatal(err)
		}
		if n := next.Counters().Streams; n != 1 {
			t.Fatalf("the successor has %d associations, want 1", n)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		suspended.Resume()
		c.want(c.request(stun.MethodRefresh), 0)
	}
}

// TestHandOverOfIdleConnections hands over to a server that serves neither DTLS nor TCP any more, while clients have connections but no
// allocations there: these end, and the allocation of another client goes on. A stranger cannot make a hand-over fail.
func TestHandOverOfIdleConnections(t *testing.T) {
	s := newSuccession(t, 1, testConfig(t))
	c := dial(t, "udp", s.udp)
	c.allocate()
	idle := dial(t, "tcp", s.tcp)
	idle.unsigned(stun.MethodBinding)
	dialDTLS(t, s.udp).unsigned(stun.MethodBinding)
	config := testConfig(t)
	config.Successor = true
	next, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FilePacketConn(s.files[0])
	if err != nil {
		t.Fatal(err)
	}
	s.serving.Go(func() {
		if err := next.ServePacket(conn); err != ErrServerClosed {
			t.Errorf("ServePacket = %v, want ErrServerClosed", err)
		}
	})
	s.takeOver(next)
	c.want(c.request(stun.MethodRefresh), 0)
	if b, err := idle.tryRead(5 * time.Second); b != nil || err != nil {
		t.Errorf("the idle client over TCP got %x, %v instead of the end of its connection", b, err)
	}
	if counters := s.current.Counters(); counters.Allocations != 1 || counters.AllocationsEnded[event.EndedByUpgrade] != 0 || counters.Streams != 0 {
		t.Errorf("%d allocations, %d ended, and %d connections; want 1, none and none", counters.Allocations,
			counters.AllocationsEnded[event.EndedByUpgrade], counters.Streams)
	}
}
