package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/deltachat"
	issuing "github.com/mailturn/mailturn/turnsrv/credential"
)

// Delta Chat asks for another credential when it looks and fewer than 12 hours are left.
const refreshBefore = 12 * time.Hour

const (
	// shortTTL is the line of the configuration that makes credentials due after 9 s to 80 minutes: the second in which they
	// expire depends on the account.
	shortTTL = `turn_ttl = "13h20m10s"`
	ttl      = 13*time.Hour + 20*time.Minute + 10*time.Second
	// soon is when credentials expire in these tests: once their users have met.
	soon = 25 * time.Second
)

// asks is what Delta Chat logs when it asks for another credential.
var asks = logged("ICE servers expired, requesting new credentials")

// due returns when a credential has to be replaced.
func (c credential) due(t *testing.T) time.Time {
	t.Helper()
	return c.expiry(t).Add(-refreshBefore)
}

// dueSoon configures the user with a name to log in to the mailbox for which the credential will be due soon.
func (u *user) dueSoon(t *testing.T) {
	t.Helper()
	issuer := issuing.Issuer{Secret: issuing.NewSecret([]byte(secret)), TTL: ttl}
	for now, i := time.Now(), 0; i < 1_000_000; i++ {
		login := fmt.Sprintf("%s@%d.%s", u.name, i, mailDomain)
		expiry := new(issuing.Accounts).Issue(issuer, login, now).Expires
		if left := expiry.Add(-refreshBefore).Sub(now); left > soon && left < soon+5*time.Second {
			u.configure(t, func(d *deltachat.Transport) { d.IMAPUser = login })
			return
		}
	}
	t.Fatal("found no name")
}

// befriendBefore has users one after the other get a credential that is due soon and make friends with bob, until one has done
// that before it is due. A machine may be too slow for the first.
func befriendBefore(t *testing.T, m *mailHost, bob *user) (u *user, withBob, withUser uint32, old credential) {
	t.Helper()
	for _, name := range []string{"alice", "carol", "dave"} {
		u = m.newDeltaChat(t, name)
		u.dueSoon(t)
		withBob, withUser = befriend(t, u, bob)
		bob.say(t, withUser, "Is it time yet?", u)
		u.say(t, withBob, "It's always six o'clock now.", bob)
		u.wait(t, 0, "Delta Chat to delete what it has got", kind("ImapMessageDeleted"))
		u.idle(t)
		if old = u.relay(t); time.Now().Before(old.due(t)) {
			return u, withBob, withUser, old
		}
	}
	t.Fatalf("nobody got that far in %v", soon)
	return nil, 0, 0, old
}

// wantNewer checks that the user has a later credential than old, and that the relay accepts it.
func (u *user) wantNewer(t *testing.T, old credential) {
	t.Helper()
	c := u.relay(t)
	if !c.due(t).After(old.due(t)) {
		t.Errorf("%s has a credential that is due at %v, after one that was due at %v", u.name, c.due(t), old.due(t))
	}
	u.host.wantAccepted(t, c)
}

// TestDeltaChatWakes has Delta Chat in IDLE when its credential has to be replaced. Messages have come before that and, on a
// chatmail server, have been deleted.
func TestDeltaChatWakes(t *testing.T) {
	t.Parallel()
	m := newMailHost(t)
	m.serve(t, mailName, "", shortTTL+"\n  turn_wake_idle = true")
	bob := m.newDeltaChat(t, "bob")
	bob.configure(t)
	u, withBob, withUser, old := befriendBefore(t, m, bob)

	now := u.idle(t)
	bob.do(t, bob.StopIO) // its key update would be mail, at which Delta Chat looks at its credential too
	_, now = u.wait(t, now, "IDLE to end", logged("Idle has NewData"))
	m.waitFor(t, m.stderr, `msg="waking the client for a new credential"`)
	_, now = u.wait(t, now, "Delta Chat to ask for a credential", asks)
	u.wait(t, now, "IMAP to be idle", kind("ImapInboxIdle"))
	u.wantNewer(t, old)
	bob.do(t, bob.StartIO)
	bob.say(t, withUser, "Time to build.", u)
	call(t, u, bob, withBob)
}

// TestDeltaChatSleeps is the control: without turn_wake_idle, Delta Chat checks its credential only when mail arrives.
func TestDeltaChatSleeps(t *testing.T) {
	t.Parallel()
	m := newMailHost(t)
	m.serve(t, mailName, "", shortTTL)
	bob := m.newDeltaChat(t, "bob")
	bob.configure(t)
	u, _, withUser, old := befriendBefore(t, m, bob)

	now := u.idle(t)
	bob.do(t, bob.StopIO) // half a minute after they have met his Delta Chat would send a key update, which is mail too
	time.Sleep(time.Until(old.due(t).Add(5 * time.Second)))
	if u.Happened(now, asks) {
		t.Error("Delta Chat has asked for another credential by itself")
	}
	if strings.Contains(m.stderr.String(), "woken") {
		t.Error("mailturn has woken Delta Chat")
	}
	bob.do(t, bob.StartIO)
	bob.say(t, withUser, "Wake up!", u)
	_, now = u.wait(t, now, "Delta Chat to ask for a credential", asks)
	u.wait(t, now, "IMAP to be idle", kind("ImapInboxIdle"))
	u.wantNewer(t, old)
}
