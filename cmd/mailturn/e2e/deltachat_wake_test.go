package e2e

import (
	"strconv"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/deltachat"
)

// Delta Chat asks for another credential when it looks and fewer than 12 hours are left.
const (
	refreshBefore = 12 * time.Hour
	soon          = 8 * time.Second // after that a new credential is due in these tests
)

// expired is what Delta Chat logs when it asks.
var expired = logged("ICE servers expired, requesting new credentials")

// shortTTL is the line of the configuration.
func shortTTL() string { return "turn_ttl = " + strconv.Quote((refreshBefore + soon).String()) }

// due returns when a credential has to be replaced.
func (c credential) due(t *testing.T) time.Time {
	t.Helper()
	return c.expiry(t).Add(-refreshBefore)
}

// wantNewer wants the user to have a later credential than old, and the relay to accept it.
func (u *user) wantNewer(t *testing.T, old credential) credential {
	t.Helper()
	c := u.relay(t)
	if !c.due(t).After(old.due(t)) {
		t.Errorf("%s has a credential that is due at %v, after one that was due at %v", u.name, c.due(t), old.due(t))
	}
	u.host.wantAccepted(t, c)
	return c
}

// TestDeltaChatWakes has Delta Chat in IDLE when its credential has to be replaced. The second time messages have come and,
// on a chatmail server, have been deleted.
func TestDeltaChatWakes(t *testing.T) {
	t.Parallel()
	m := newMailHost(t)
	m.serve(t, mailName, "", shortTTL()+"\n  turn_wake_idle = true")
	alice, bob := m.newDeltaChat(t, "alice"), m.newDeltaChat(t, "bob")
	alice.configure(t)
	first := alice.relay(t)
	asks := func(after deltachat.Moment) deltachat.Moment {
		_, woken := alice.wait(t, after, "IDLE to end", logged("Idle has NewData"))
		_, asked := alice.wait(t, woken, "Delta Chat to ask for a credential", expired)
		_, idle := alice.wait(t, asked, "IMAP to be idle", kind("ImapInboxIdle"))
		return idle // and it has the answer
	}
	asks(0)
	second := alice.wantNewer(t, first)

	bob.configure(t)
	withBob, withAlice := befriend(t, alice, bob)
	bob.say(t, withAlice, "Is it time yet?", alice)
	alice.say(t, withBob, "It's always six o'clock now.", bob)
	alice.wait(t, 0, "Delta Chat to delete what it has got", kind("ImapMessageDeleted"))
	now := alice.Core().Now()
	third := second
	for !third.due(t).After(second.due(t)) {
		now = asks(now)
		third = alice.wantNewer(t, first)
	}
	bob.say(t, withAlice, "Time to build.", alice)
	call(t, alice, bob, withBob)
}

// TestDeltaChatSleeps is the control: without turn_wake_idle it is mail that makes Delta Chat look.
func TestDeltaChatSleeps(t *testing.T) {
	t.Parallel()
	m := newMailHost(t)
	m.serve(t, mailName, "", shortTTL())
	alice, bob := m.newDeltaChat(t, "alice"), m.newDeltaChat(t, "bob")
	alice.configure(t)
	bob.configure(t)
	withBob, withAlice := befriend(t, alice, bob)
	alice.say(t, withBob, "Good night.", bob)
	old := alice.relay(t)
	time.Sleep(time.Until(old.due(t).Add(time.Second))) // what came before may have made Delta Chat ask until now
	old = alice.relay(t)
	now := alice.Core().Now()
	time.Sleep(time.Until(old.due(t).Add(soon)))
	if alice.Happened(now, expired) {
		t.Error("Delta Chat has asked for another credential by itself")
	}
	bob.say(t, withAlice, "Wake up!", alice)
	_, now = alice.wait(t, now, "Delta Chat to ask for a credential", expired)
	alice.wait(t, now, "IMAP to be idle", kind("ImapInboxIdle"))
	alice.wantNewer(t, old)
}
