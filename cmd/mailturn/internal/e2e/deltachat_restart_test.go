package e2e

import (
	"context"
	"net"
	"testing"

	"github.com/mailturn/mailturn/imapext/discovery"
)

// TestDeltaChatRestart stops mailturn while two users are connected, and starts it again after mail has arrived for both. Delta
// Chat reconnects by itself: immediately, and if that fails once a minute.
func TestDeltaChatRestart(t *testing.T) {
	t.Parallel()
	m := newMailHost(t)
	m.serve(t, mailName, "", "")
	alice, bob := m.newDeltaChat(t, "alice"), m.newDeltaChat(t, "bob")
	alice.configure(t)
	bob.configure(t)
	withBob, withAlice := befriend(t, alice, bob)
	before := []credential{alice.relay(t), bob.relay(t)}

	m.stop(t)
	alone, err := net.ListenPacket("udp", net.JoinHostPort(m.addr, "3478"))
	if err != nil {
		t.Fatalf("the port of the relay is not free: %v", err)
	}
	alone.Close()
	aliceNow, bobNow := alice.Core().Now(), bob.Core().Now()
	alice.do(t, func(ctx context.Context) error {
		_, err := alice.Send(ctx, withBob, "Down the rabbit hole")
		return err
	})
	bob.do(t, func(ctx context.Context) error { _, err := bob.Send(ctx, withAlice, "Out of order"); return err })
	alice.wait(t, aliceNow, "the message to be sent", kind("MsgDelivered"))
	bob.wait(t, bobNow, "the message to be sent", kind("MsgDelivered"))
	m.start(t)

	alice.hear(t, aliceNow, "Out of order")
	bob.hear(t, bobNow, "Down the rabbit hole")
	for i, u := range []*user{alice, bob} {
		after := u.relay(t)
		if after != before[i] {
			t.Errorf("%s had the credential %+v, and has %+v", u.name, before[i], after)
		}
		m.wantAccepted(t, after)
	}
	alice.say(t, withBob, "I'm late!", bob)
	call(t, alice, bob, withBob)
}

// TestDeltaChatWithoutTURN is the control of every test that looks at ICE servers: Delta Chat falls back to its public
// server.
func TestDeltaChatWithoutTURN(t *testing.T) {
	t.Parallel()
	m := newMailHost(t)
	m.serve(t, mailName, "", "turn_enable = false")
	alice := m.newDeltaChat(t, "alice")
	alice.configure(t)
	servers := alice.iceServers(t)
	if len(servers) != 1 || servers[0].URLs[0] != "turn:"+nowhere+":3478" || servers[0].Username != "public" {
		t.Errorf("got the ICE servers %+v, want the public one", servers)
	}
	alice.wantSameJSON(t, discovery.FallbackServers())

	// Where an old one looks without a relay of its mail server is nothing that the hosts file of this test names.
	bob := m.newOldDeltaChat(t, "bob")
	bob.configure(t, anyCertificate)
	for _, server := range bob.iceServers(t) {
		if len(server.URLs) > 0 {
			t.Errorf("an old Delta Chat got the ICE server %+v, want none that it can reach", server)
		}
	}
}
