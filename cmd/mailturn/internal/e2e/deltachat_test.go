package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/deltachat"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/framework/resolver"
	"github.com/mailturn/mailturn/imapext/discovery"
)

// deltachatLimit is how long Delta Chat may take for anything. It connects again after a minute at
// the latest.
const deltachatLimit = 2 * time.Minute

// user is a user of Delta Chat on a separate device.
type user struct {
	*deltachat.Account
	host *mailHost
	name string
	core string // its name and version, in docs/interop.md
}

// newDeltaChat starts Delta Chat without a mailbox.
func (m *mailHost) newDeltaChat(t *testing.T, name string) *user {
	t.Helper()
	program, err := deltachat.Find("deltachat")
	if err != nil {
		lacks(t, "%v, and not in PATH: run npm ci in cmd/mailturn/internal/e2e/deltachat", err)
	}
	return m.startDeltaChat(t, name, program, "Delta Chat core")
}

// newOldDeltaChat is newDeltaChat with the oldest release of the core that npm has and that makes calls.
func (m *mailHost) newOldDeltaChat(t *testing.T, name string) *user {
	t.Helper()
	program, err := deltachat.Installed(filepath.Join("deltachat", "oldest"))
	if err != nil {
		lacks(t, "%v: run npm ci in cmd/mailturn/internal/e2e/deltachat/oldest", err)
	}
	return m.startDeltaChat(t, name, program, "an old Delta Chat core")
}

// startDeltaChat is newDeltaChat with the core of a path, which docs/interop.md calls by kind.
func (m *mailHost) startDeltaChat(t *testing.T, name, program, kind string) *user {
	t.Helper()
	core, err := deltachat.Start(m.clients.command(program), filepath.Join(t.TempDir(), "accounts"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := core.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of %s's Delta Chat:\n%s", name, core.Log())
		}
	})
	u := &user{host: m, name: name, core: fmt.Sprintf("%s (%s)", kind, programVersion(t, program, "--version"))}
	u.do(t, func(ctx context.Context) (err error) {
		u.Account, err = core.AddAccount(ctx)
		return err
	})
	u.do(t, func(ctx context.Context) error { return u.SetConfig(ctx, "displayname", name) })
	return u
}

// do calls f, which has to succeed in time.
func (u *user) do(t *testing.T, f func(ctx context.Context) error) {
	t.Helper()
	if err := u.try(t, f); err != nil {
		t.Fatalf("%s: %v", u.name, err)
	}
}

// try calls f, which has to end in time.
func (u *user) try(t *testing.T, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(t.Context(), deltachatLimit)
	defer cancel()
	return f(ctx)
}

// transport is the user's mailbox: IMAP over TLS on port 993, with a strict check of the certificate.
func (u *user) transport(t *testing.T) deltachat.Transport {
	addr := u.name + "@" + mailDomain
	return deltachat.Transport{
		Addr: addr, Password: dovecot.Password,
		IMAPServer: mailName, IMAPPort: 993, IMAPSecurity: deltachat.TLS, IMAPUser: addr,
		SMTPServer: plainName, SMTPPort: u.host.smtpPort(t), SMTPSecurity: deltachat.Plain, SMTPUser: addr, SMTPPassword: dovecot.Password,
		CertificateChecks: deltachat.Strict,
	}
}

// configure gives the user a mailbox and waits until nothing is left to be fetched. Edits change how it is reached.
func (u *user) configure(t *testing.T, edits ...func(*deltachat.Transport)) {
	t.Helper()
	transport := u.transport(t)
	for _, edit := range edits {
		edit(&transport)
	}
	before := u.Core().Now()
	u.do(t, func(ctx context.Context) error { return u.AddTransport(ctx, transport) })
	u.wait(t, before, "IMAP to be idle", kind("ImapInboxIdle"))
}

// kind matches the events of a kind.
func kind(name string) func(deltachat.Event) bool {
	return func(e deltachat.Event) bool { return e.Kind == name }
}

// logged matches the lines of Delta Chat's log that contain text.
func logged(text string) func(deltachat.Event) bool {
	return func(e deltachat.Event) bool {
		return (e.Kind == "Info" || e.Kind == "Warning" || e.Kind == "Error") && strings.Contains(e.Msg, text)
	}
}

// wait waits for an event, and returns it and the moment after it.
func (u *user) wait(t *testing.T, after deltachat.Moment, what string, matches func(deltachat.Event) bool) (deltachat.Event, deltachat.Moment) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deltachatLimit)
	defer cancel()
	e, next, err := u.Wait(ctx, after, matches)
	if err != nil {
		t.Fatalf("%s waits for %s: %v", u.name, what, err)
	}
	return e, next
}

// befriend has bob scan alice's invitation, after which either may call the other. It returns the chats of the two.
func befriend(t *testing.T, alice, bob *user) (withBob, withAlice uint32) {
	t.Helper()
	var qr string
	alice.do(t, func(ctx context.Context) (err error) { qr, err = alice.QR(ctx); return err })
	aliceNow, bobNow := alice.Core().Now(), bob.Core().Now()
	bob.do(t, func(ctx context.Context) (err error) { withAlice, err = bob.SecureJoin(ctx, qr); return err })
	joined := func(kind string) func(deltachat.Event) bool {
		return func(e deltachat.Event) bool { return e.Kind == kind && e.Progress == 1000 }
	}
	bob.wait(t, bobNow, "the end of the secure join", joined("SecurejoinJoinerProgress"))
	e, _ := alice.wait(t, aliceNow, "the end of the secure join", joined("SecurejoinInviterProgress"))
	alice.do(t, func(ctx context.Context) (err error) { withBob, err = alice.ChatWith(ctx, e.ContactID); return err })
	return withBob, withAlice
}

// say sends a text to a chat and waits until the other user has received it.
func (u *user) say(t *testing.T, chatID uint32, text string, other *user) {
	t.Helper()
	now := other.Core().Now()
	u.do(t, func(ctx context.Context) error { _, err := u.Send(ctx, chatID, text); return err })
	other.hear(t, now, text)
}

// hear waits for a message with the text.
func (u *user) hear(t *testing.T, after deltachat.Moment, text string) {
	t.Helper()
	for {
		var e deltachat.Event
		e, after = u.wait(t, after, fmt.Sprintf("the message %q", text), kind("IncomingMsg"))
		var got string
		u.do(t, func(ctx context.Context) (err error) { got, err = u.Text(ctx, e.MsgID); return err })
		if got == text {
			return
		}
	}
}

// iceServers returns what the user's app would hand to WebRTC.
func (u *user) iceServers(t *testing.T) []deltachat.ICEServer {
	t.Helper()
	var servers []deltachat.ICEServer
	u.do(t, func(ctx context.Context) (err error) { servers, err = u.ICEServers(ctx); return err })
	return servers
}

// wantSameJSON checks that imapext/discovery writes the ICE servers byte for byte as Delta Chat does.
func (u *user) wantSameJSON(t *testing.T, servers []discovery.Server) {
	t.Helper()
	var want string
	u.do(t, func(ctx context.Context) (err error) { want, err = u.ICEServersJSON(ctx); return err })
	known := map[string][]netip.Addr{turnName: {netip.MustParseAddr(u.host.addr)}, publicServer: {netip.MustParseAddr(nowhere)}}
	resolved, failed := discovery.Resolve(t.Context(), resolver.Fake(known), servers)
	if got := string(discovery.AppendJSON(nil, resolved)); got != want || failed != nil {
		t.Errorf("got the ICE servers %s, %v, and %s's Delta Chat has %s", got, failed, u.name, want)
	}
}

// relay returns the credential that the user has for calls. It has to be this server's, and the only one.
func (u *user) relay(t *testing.T) credential {
	t.Helper()
	servers := u.iceServers(t)
	want := "turn:" + net.JoinHostPort(u.host.addr, "3478")
	if len(servers) != 1 || !slices.Equal(servers[0].URLs, []string{want}) {
		t.Fatalf("%s has the ICE servers %+v, want %s alone", u.name, servers, want)
	}
	return credential{host: u.host.addr, port: "3478", username: servers[0].Username, password: servers[0].Credential}
}

// expiry returns when the credential expires, which its user name says.
func (c credential) expiry(t *testing.T) time.Time {
	t.Helper()
	seconds, err := strconv.ParseInt(c.username, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(seconds, 0)
}

// allocate asks the relay for an allocation, and gives it back.
func (m *mailHost) allocate(t *testing.T, c credential) error {
	t.Helper()
	conn, err := net.Dial("udp", net.JoinHostPort(c.host, c.port))
	must(t, err)
	client := turnclient.New(turnclient.Config{Conn: conn, Username: c.username, Password: c.password})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	if _, err := client.Challenge(ctx); err != nil {
		return err
	}
	if _, err := client.Allocate(ctx); err != nil {
		return err
	}
	_, err = client.Refresh(ctx, 0)
	return err
}

// wantAccepted checks that the relay accepts a credential.
func (m *mailHost) wantAccepted(t *testing.T, c credential) {
	t.Helper()
	if err := m.allocate(t, c); err != nil {
		t.Errorf("allocate as %s: %v", c.username, err)
	}
}

// wantRefused checks that the relay refuses a credential for the expected reason.
func (m *mailHost) wantRefused(t *testing.T, c credential) {
	t.Helper()
	if err := m.allocate(t, c); err == nil || !strings.Contains(err.Error(), m.engine.refused) {
		t.Errorf("allocate as %s: got the error %v, want %s", c.username, err, m.engine.refused)
	}
}

// TestDeltaChat follows two users from their first login to the end of a call.
func TestDeltaChat(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { testDeltaChat(t, e) })
	}
}

func testDeltaChat(t *testing.T, e engine) {
	t.Parallel()
	m := newMailHost(t)
	m.engine = e
	m.serve(t, mailName, "", "")
	begin := time.Now()
	alice, bob := m.newDeltaChat(t, "alice"), m.newDeltaChat(t, "bob")
	alice.configure(t)
	bob.configure(t)
	withBob, withAlice := befriend(t, alice, bob)

	t.Run("messages", func(t *testing.T) {
		alice.say(t, withBob, "Curiouser and curiouser!", bob)
		bob.say(t, withAlice, "Can we fix it?", alice)
	})
	t.Run("compression", func(t *testing.T) {
		for _, u := range []*user{alice, bob} {
			if !u.Happened(0, logged("Enabling IMAP compression")) {
				t.Errorf("%s did not ask for COMPRESS", u.name)
			}
		}
		if log := m.stderr.String(); !strings.Contains(log, `msg="compression started"`) {
			t.Error("mailturn began no compression")
		}
	})
	t.Run("push", func(t *testing.T) {
		// IDLE told Alice of the mail if it ended with data and the message arrived then.
		before := alice.idle(t)
		bob.do(t, func(ctx context.Context) error { _, err := bob.Send(ctx, withAlice, "Yes we can!"); return err })
		_, told := alice.wait(t, before, "IDLE to tell of mail", logged("Idle has NewData"))
		alice.hear(t, told, "Yes we can!")
		if alice.Happened(0, logged("IMAP-fake-IDLEing")) {
			t.Error("Delta Chat polled")
		}
	})
	t.Run("ice_servers", func(t *testing.T) {
		for _, u := range []*user{alice, bob} {
			c := u.relay(t)
			if want := mint(c.username); c.password != want {
				t.Errorf("%s has the password %q for the user name %s, want %q", u.name, c.password, c.username, want)
			}
			const ttl = 5 * 24 * time.Hour // or a tenth less
			if expiry := c.expiry(t); expiry.Before(begin.Add(ttl-ttl/10)) || expiry.After(time.Now().Add(ttl)) {
				t.Errorf("%s has a credential until %v, want at most 5 days from %v on", u.name, expiry, begin)
			}
			m.wantAccepted(t, c)
			u.wantSameJSON(t, []discovery.Server{discovery.Value{Hostname: turnName, Port: 3478, Username: c.username, Password: c.password}.Server()})
		}
	})
	t.Run("call", func(t *testing.T) { call(t, alice, bob, withBob) })
	t.Run("declined call", func(t *testing.T) {
		before := bob.Core().Now()
		var placed uint32
		alice.do(t, func(ctx context.Context) (err error) {
			placed, err = alice.PlaceCall(ctx, withBob, "an offer")
			return err
		})
		incoming, _ := bob.wait(t, before, "the call", kind("IncomingCall"))
		before = alice.Core().Now()
		bob.do(t, func(ctx context.Context) error { return bob.EndCall(ctx, incoming.MsgID) })
		alice.wait(t, before, "the end of the call", about("CallEnded", placed))
		alice.wantCall(t, placed, "Declined")
		bob.wantCall(t, incoming.MsgID, "Declined")
	})
	t.Run("reload", func(t *testing.T) { reloadUnderDeltaChat(t, alice, bob, withBob, withAlice) })
}

// idle waits until the user's Delta Chat is in IDLE, and returns the moment when that began.
func (u *user) idle(t *testing.T) deltachat.Moment {
	t.Helper()
	for began := deltachat.Moment(0); ; {
		_, began = u.wait(t, began, "IDLE", logged("IDLE entering wait-on-remote state"))
		if !u.Happened(began, logged("Idle has NewData")) && !u.Happened(began, logged("stopping IDLE")) {
			return began
		}
	}
}

// about matches the events of a kind about a message.
func about(name string, msgID uint32) func(deltachat.Event) bool {
	return func(e deltachat.Event) bool { return e.Kind == name && e.MsgID == msgID }
}

// wantCall checks that a call is in a state.
func (u *user) wantCall(t *testing.T, msgID uint32, want string) {
	t.Helper()
	u.do(t, func(ctx context.Context) error {
		got, err := u.CallState(ctx, msgID)
		if err == nil && got != want {
			t.Errorf("%s sees a call in the state %s, want %s", u.name, got, want)
		}
		return err
	})
}

// call has alice call bob, who answers, and end the call. The apps of both hear of each step.
func call(t *testing.T, alice, bob *user, withBob uint32) {
	const offer, answer = "an SDP offer", "an SDP answer"
	aliceNow, bobNow := alice.Core().Now(), bob.Core().Now()
	var placed uint32
	alice.do(t, func(ctx context.Context) (err error) { placed, err = alice.PlaceCall(ctx, withBob, offer); return err })
	incoming, bobNow := bob.wait(t, bobNow, "the call", kind("IncomingCall"))
	if incoming.PlaceCallInfo != offer {
		t.Errorf("bob was offered %q, want %q", incoming.PlaceCallInfo, offer)
	}
	alice.wantCall(t, placed, "Alerting")
	bob.wantCall(t, incoming.MsgID, "Alerting")

	bob.do(t, func(ctx context.Context) error { return bob.AcceptCall(ctx, incoming.MsgID, answer) })
	accepted, aliceNow := alice.wait(t, aliceNow, "the answer", about("OutgoingCallAccepted", placed))
	if accepted.AcceptCallInfo != answer {
		t.Errorf("alice was answered %q, want %q", accepted.AcceptCallInfo, answer)
	}
	_, bobNow = bob.wait(t, bobNow, "the call to be accepted", about("IncomingCallAccepted", incoming.MsgID))
	alice.wantCall(t, placed, "Active")
	bob.wantCall(t, incoming.MsgID, "Active")

	alice.do(t, func(ctx context.Context) error { return alice.EndCall(ctx, placed) })
	alice.wait(t, aliceNow, "the end of the call", about("CallEnded", placed))
	bob.wait(t, bobNow, "the end of the call", about("CallEnded", incoming.MsgID))
	alice.wantCall(t, placed, "Completed")
	bob.wantCall(t, incoming.MsgID, "Completed")
}

// reloadUnderDeltaChat gives mailturn other secrets by SIGHUP. Nobody is disconnected, and what the users have is accepted
// until the secret that it was made with is gone.
func reloadUnderDeltaChat(t *testing.T, alice, bob *user, withBob, withAlice uint32) {
	const newSecret = "the secret of the following week"
	m := alice.host
	aliceNow, bobNow := alice.Core().Now(), bob.Core().Now()
	c := alice.relay(t)
	both := "[" + strconv.Quote(newSecret) + ", " + strconv.Quote(secret) + "]"
	rewrite(t, m.server, m.config, strconv.Quote(secret), both, "msg=reloaded")
	alice.say(t, withBob, "Why, sometimes I've believed as many as six impossible things before breakfast.", bob)
	bob.say(t, withAlice, "Fixing it for the third time.", alice)
	call(t, alice, bob, withBob)
	m.wantAccepted(t, c)
	if alice.Happened(aliceNow, kind("ImapConnected")) || bob.Happened(bobNow, kind("ImapConnected")) {
		t.Error("Delta Chat had to connect again")
	}

	rewrite(t, m.server, m.config, both, strconv.Quote(newSecret), "msg=reloaded")
	m.wantRefused(t, c)
}
