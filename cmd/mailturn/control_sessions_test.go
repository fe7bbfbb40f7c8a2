package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/endpoint/turn/pion"
	"github.com/mailturn/mailturn/framework/module"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// relaying is a served configuration whose relay allows peers on loopback.
type relaying struct {
	served
	relay         string // its address
	configuration string
	stop          func()
}

func runRelay(t *testing.T) *relaying {
	t.Helper()
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	dir, err := os.MkdirTemp("", "ctl") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("RUNTIME_DIRECTORY", "")
	r := &relaying{relay: free.LocalAddr().String()}
	r.configuration = strings.NewReplacer("127.0.0.1:0", r.relay, "\n}", "\n  peers {\n    allow = [\"127.0.0.0/8\"]\n  }\n}").Replace(controlled)
	r.served = served{dir: dir, file: filepath.Join(dir, "maddy.conf"), socket: filepath.Join(dir, controlSocket), log: new(lockedBuffer)}
	r.stop = r.start(t, r.configuration)
	return r
}

// credential issues one for an account.
func (r *relaying) credential(t *testing.T, account string) (username, password string) {
	t.Helper()
	status, printed := r.ctl("credentials", account, "--json")
	var report credentialReport
	if err := json.Unmarshal([]byte(printed), &report); err != nil || status != 0 {
		t.Fatalf("exit status %d, %v:\n%s", status, err, printed)
	}
	return report.Username, report.Credential
}

// client is a client that is not allocated yet.
func (r *relaying) client(t *testing.T, username, password string) *turnclient.Client {
	t.Helper()
	conn, err := net.Dial("udp", r.relay)
	if err != nil {
		t.Fatal(err)
	}
	c := turnclient.New(turnclient.Config{Conn: conn, Username: username, Password: password})
	t.Cleanup(func() { c.Close() })
	if _, err := c.Challenge(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// allocate returns the relayed address of a new allocation.
func (r *relaying) allocate(t *testing.T, username, password string) (*turnclient.Client, netip.AddrPort) {
	t.Helper()
	c := r.client(t, username, password)
	allocation, err := c.Allocate(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log)
	}
	return c, allocation.Relayed
}

// sessions returns those that mailturn ctl lists.
func (r *relaying) sessions(t *testing.T, args ...string) []sessionReport {
	t.Helper()
	status, printed := r.ctl(append([]string{"sessions", "--json"}, args...)...)
	var report sessionsReport
	if err := json.Unmarshal([]byte(printed), &report); err != nil || status != 0 {
		t.Fatalf("exit status %d, %v:\n%s", status, err, printed)
	}
	return report.Sessions
}

// evilAccount is the name of an account that would control the terminal of whoever lists it: with ESC, and with CSI, the C1 control
// character. It is printed as evilPrinted. Accounts are in lower case.
const (
	evilAccount = "ev il\x1b[2J\n\t\u009b31mx\u202e@example.org"
	evilPrinted = `ev il\x1b[2j\n\t\u009b31mx\u202e@example.org`
)

// TestCtlEvilAccount wants no command to print what a name would do to the terminal, in text or in JSON, and each to accept the name.
func TestCtlEvilAccount(t *testing.T) {
	r := runRelay(t)
	username, password := r.credential(t, evilAccount)
	r.allocate(t, username, password)
	for _, args := range [][]string{
		{"sessions"}, {"sessions", "--account", evilAccount}, {"credentials", evilAccount},
		{"disconnect", "--account", evilAccount}, {"ban", evilAccount, "--reason", evilAccount}, {"bans"}, {"unban", evilAccount}, {"unban", evilAccount},
		{"sessions", "--network", evilAccount}, {"log-level", "debug", "--endpoint", evilAccount}, {"who", evilAccount, "now"}, {"status"},
		{"status", "--socket", "/" + evilAccount}, {"sessions", "--sort", evilAccount},
	} {
		for _, format := range []string{"text", "json"} {
			if args[0] == "disconnect" {
				r.client(t, username, password).Allocate(t.Context())
			}
			_, printed := r.ctl(append(args, "--json="+fmt.Sprint(format == "json"))...)
			if strings.ContainsFunc(strings.ReplaceAll(printed, "\n", ""), func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("%q in %s prints %q", args, format, printed)
			}
		}
	}
}

func TestCtlSessions(t *testing.T) {
	r := runRelay(t)
	username, password := r.credential(t, "Alice+phone@example.org")
	alice, aliceRelayed := r.allocate(t, username, password)
	username, password = r.credential(t, evilAccount)
	evilClient, _ := r.allocate(t, username, password)
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	to := peer.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := alice.ChannelBind(t.Context(), 0x4000, to); err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{}, 1)
	alice.Handle(func(turnclient.Data) { answered <- struct{}{} })
	if err := alice.SendChannel(0x4000, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	if n, _, err := peer.ReadFrom(buf); err != nil || n != 1000 {
		t.Fatalf("the peer got %d bytes, %v", n, err)
	}
	if _, err := peer.WriteTo(buf[:500], net.UDPAddrFromAddrPort(aliceRelayed)); err != nil {
		t.Fatal(err)
	}
	<-answered

	sessions := r.sessions(t, "--account", "ALICE@example.org", "--network", "127.0.0.0/8", "--transport", "udp", "--relayed", aliceRelayed.String())
	if len(sessions) != 1 {
		t.Fatalf("got %+v", sessions)
	}
	s := sessions[0]
	if s.Account != "alice@example.org" || s.Client != alice.LocalAddr().String() || s.Endpoint != "turn" || s.Peers != 1 || s.Channels != 1 ||
		s.ToPeerBytes != 1000 || s.ToPeerPackets != 1 || s.ToClientBytes != 500 || s.ToClientPackets != 1 {
		t.Errorf("got %+v", s)
	}
	if n := len(r.sessions(t, "--network", "192.0.2.1")); n != 0 {
		t.Errorf("%d sessions of an address that no client has", n)
	}
	status, printed := r.ctl("sessions", "--sort", "bytes")
	lines := strings.Split(printed, "\n")
	if status != 0 || len(lines) < 3 || !strings.HasPrefix(lines[1], "alice@example.org ") || strings.Contains(printed, "\x1b") ||
		!strings.Contains(printed, evilPrinted) || !strings.Contains(printed, "Sessions: 2, relayed: 1.5 kB.") {
		t.Errorf("exit status %d:\n%q", status, printed)
	}
	r.want(t, 0, "Sessions: 2", "sessions", "--limit", "1")
	r.want(t, exitUsage, "--sort size: want account", "sessions", "--sort", "size")
	r.want(t, exitFailure, `transport "sctp": want udp, tcp, tls or dtls`, "sessions", "--transport", "sctp")
	r.want(t, exitFailure, `relayed address "x": want an IP address with a port`, "sessions", "--relayed", "x")
	r.want(t, exitFailure, `want an IP address or a network`, "sessions", "--network", "192.0.2.0/33")

	r.want(t, exitUsage, "say which sessions to end", "disconnect")
	r.want(t, 0, "No session matches.", "disconnect", "--account", "nobody@example.org")
	r.want(t, 0, "Ended: "+evilPrinted+", "+evilClient.LocalAddr().String()+" over UDP", "disconnect", "--account", evilAccount)
	r.logged(t, `msg="sessions ended"`)
	if _, err := evilClient.Refresh(t.Context(), time.Minute); turnclient.Code(err) != 437 {
		t.Errorf("the session that was ended: got %v", err)
	}
	if _, err := alice.Refresh(t.Context(), time.Minute); err != nil {
		t.Errorf("the other session: got %v", err)
	}
	r.want(t, 0, "Ended: alice@example.org", "disconnect", "--all")
}

// TestCtlWatch wants lists until the command is interrupted, in which names cannot control the terminal.
func TestCtlWatch(t *testing.T) {
	r := runRelay(t)
	username, password := r.credential(t, evilAccount)
	r.allocate(t, username, password)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := newRootCommand()
	cmd.SetArgs([]string{"ctl", "--socket", r.socket, "sessions", "--watch", "--interval", "1s"})
	output, written := io.Pipe()
	cmd.SetOut(written)
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	lists := 0
	for lines := bufio.NewScanner(output); lists < 2 && lines.Scan(); {
		line := strings.TrimPrefix(lines.Text(), "\x1b[H\x1b[2J")
		switch {
		case strings.ContainsFunc(line, unicode.IsControl):
			t.Errorf("control characters are printed: %q", line)
		case strings.HasPrefix(line, evilPrinted+" ") && strings.Contains(line, "udp"):
			lists++
		}
	}
	cancel()
	output.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestCtlBan wants a ban to end the call, to refuse the next one with 403, to hold over a restart for credentials issued before and during it, and
// to end when it is lifted.
func TestCtlBan(t *testing.T) {
	r := runRelay(t)
	aliceUser, alicePassword := r.credential(t, "alice@example.org")
	bobUser, bobPassword := r.credential(t, "bob@example.org")
	alice, _ := r.allocate(t, aliceUser, alicePassword)
	bob, _ := r.allocate(t, bobUser, bobPassword)

	r.want(t, 0, "There are no bans.", "bans")
	r.want(t, 0, "Banned: carol@example.org", "ban", "carol@example.org", "--for", "1h")
	carolUser, carolPassword := r.credential(t, "carol@example.org")
	r.want(t, 0, "Banned: alice@example.org, until ", "ban", "Alice@example.org", "--reason", "spam\x1b", "--for", "1h")
	r.logged(t, "msg=banned")
	if _, err := alice.Refresh(t.Context(), time.Minute); turnclient.Code(err) != 437 {
		t.Errorf("the call of alice: got %v, want it to have ended", err)
	}
	if _, err := bob.Refresh(t.Context(), time.Minute); err != nil {
		t.Errorf("the call of bob: got %v", err)
	}
	refused := func(when string) {
		t.Helper()
		if _, err := r.client(t, aliceUser, alicePassword).Allocate(t.Context()); turnclient.Code(err) != 403 {
			t.Errorf("%s: got %v, want 403", when, err)
		}
	}
	refused("banned")
	r.stop()
	if info, err := os.Stat(filepath.Join(r.dir, bansFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the bans: %v, %v", info, err)
	}
	r.stop = r.start(t, r.configuration)
	refused("after a restart")
	if _, err := r.client(t, carolUser, carolPassword).Allocate(t.Context()); turnclient.Code(err) != 403 {
		t.Errorf("with a credential issued during the ban, after a restart: got %v, want 403", err)
	}
	r.want(t, 0, "Lifted. Remaining bans: 1.", "unban", "carol@example.org")
	user, password := r.credential(t, "alice@example.org")
	if _, err := r.client(t, user, password).Allocate(t.Context()); turnclient.Code(err) != 403 {
		t.Errorf("with another credential after a restart: got %v, want 403", err)
	}
	r.allocate(t, bobUser, bobPassword)
	r.want(t, 0, `spam\x1b`, "bans")
	r.want(t, 0, "Lifted. Remaining bans: 0.", "unban", "alice@example.org")
	r.want(t, exitFailure, "there is no such ban", "unban", "alice@example.org")
	r.allocate(t, aliceUser, alicePassword)

	r.want(t, 0, "Banned: 127.0.0.0/8", "ban", "127.0.0.1/8")
	if n := len(r.sessions(t)); n != 0 {
		t.Errorf("%d sessions go on in a network that is banned", n)
	}
	refused("banned network")
	r.want(t, 0, "Lifted.", "unban", "127.0.0.0/8")
	r.want(t, exitFailure, "want one of at most 8784h", "ban", "192.0.2.1", "--for", "9000h")
	r.want(t, exitFailure, "the reason has more than 200 bytes", "ban", "192.0.2.1", "--reason", strings.Repeat("a", 201))
	r.want(t, exitFailure, "the name of the account has more than 255 bytes", "ban", strings.Repeat("a", 256))
}

// TestCtlPion wants commands that the other engine cannot follow to say so, and to change nothing.
func TestCtlPion(t *testing.T) {
	o := &operators{service: &service{running: make(map[string]module.Endpoint)}}
	if _, err := o.relays(); err == nil || err.Error() != "this configuration has no relay" {
		t.Errorf("got %v", err)
	}
	o.service.running[`endpoint turn "other"`] = new(pion.Endpoint)
	if _, err := o.relays(); err == nil || err.Error() != `endpoint turn "other" has engine = "pion", which this command does not support` {
		t.Errorf("got %v", err)
	}
}

// TestStoredBans wants a file of bans that is damaged to be kept aside, with an error in the log, and the limits to hold.
func TestStoredBans(t *testing.T) {
	for name, content := range map[string]string{
		"not JSON": "{", "newer": `{"version": 2}`, "nothing": `{"version": 1, "bans": [{}]}`,
		"both":        `{"version": 1, "bans": [{"account": "a", "network": "192.0.2.1/32"}]}`,
		"bad network": `{"version": 1, "bans": [{"network": "192.0.2.1/64"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, bansFile)
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			var b bans
			var logged lockedBuffer
			b.load(dir, slog.New(slog.NewTextHandler(&logged, nil)))
			if kept, err := os.ReadFile(file + ".damaged"); err != nil || string(kept) != content {
				t.Errorf("kept %q, %v", kept, err)
			}
			if !strings.Contains(logged.String(), "level=ERROR") {
				t.Errorf("the log has no error:\n%s", &logged)
			}
			if _, err := b.add(banReport{Account: "a", Until: time.Now().Add(time.Hour)}); err != nil {
				t.Error(err)
			}
		})
	}

	dir := t.TempDir()
	var b bans
	b.load(dir, slog.New(slog.DiscardHandler))
	now := time.Now()
	b.clock = func() time.Time { return now }
	for i := range maxBans {
		b.stored.Bans = append(b.stored.Bans, banReport{Account: fmt.Sprint(i), Until: now.Add(time.Duration(i+1) * time.Second)})
	}
	if _, err := b.add(banReport{Account: "new", Until: now.Add(time.Hour)}); err != errTooManyBans {
		t.Errorf("got %v", err)
	}
	if _, err := b.add(banReport{Account: "5", Until: now.Add(time.Hour)}); err != nil { // replaces another one
		t.Error(err)
	}
	now = now.Add(time.Second)
	if _, err := b.add(banReport{Account: "new", Until: now.Add(time.Hour)}); err != nil { // one has expired
		t.Error(err)
	}
	var again bans
	again.load(dir, slog.New(slog.DiscardHandler))
	if got := len(again.current()); got != maxBans {
		t.Errorf("%d bans were stored, want %d", got, maxBans)
	}
	var none bans
	none.load("", slog.New(slog.DiscardHandler))
	if _, err := none.add(banReport{Account: "a"}); err != errNoStateDir {
		t.Errorf("without a state directory: got %v", err)
	}
}

// TestBanUsernames wants a ban to gather the user names of its account, those that expire last, also over a restart and another ban.
func TestBanUsernames(t *testing.T) {
	dir := t.TempDir()
	until := time.Now().Add(time.Hour)
	issuer := credential.Issuer{Secret: credential.NewSecret([]byte("0123456789abcdef0123456789abcdef")), TTL: 10 * time.Hour}
	at := time.Now()
	var issued []string
	for range 2 { // processes
		var b bans
		var accounts credential.Accounts
		b.load(dir, slog.New(slog.DiscardHandler))
		if _, err := b.add(banReport{Account: "Mallory", Until: until}); err != nil {
			t.Fatal(err)
		}
		for range maxBanUsernames/2 + 1 {
			issued = append(issued, accounts.Issue(issuer, "mallory", at).Username)
			accounts.Issue(issuer, "alice", at)
			at = at.Add(issuer.TTL / 10)
			if err := b.remember(&accounts); err != nil {
				t.Fatal(err)
			}
		}
	}
	var b bans
	b.load(dir, slog.New(slog.DiscardHandler))
	want := issued[len(issued)-maxBanUsernames:]
	if got := b.current(); len(got) != 1 || !slices.Equal(got[0].Usernames, want) {
		t.Errorf("got %v, want the user names %v", got, want)
	}
}

// FuzzBans wants no content of the file to do more than to be refused.
func FuzzBans(f *testing.F) {
	f.Add([]byte(`{"version": 1, "bans": [{"account": "a", "usernames": ["1"], "until": "2026-11-30T12:00:00Z"}, {"network": "192.0.2.0/24"}]}`))
	f.Add([]byte(`{"version": 1, "bans": [{"network": "::ffff:192.0.2.0/120"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		reports, err := parseBans(text)
		if err == nil {
			new(bans).set(reports)
		}
	})
}

// FuzzSelector wants each selector to be refused or to choose the same after it went through a query.
func FuzzSelector(f *testing.F) {
	f.Add("alice@example.org", "192.0.2.0/24", "198.51.100.7:50000", "udp")
	f.Add("a b&c=d", "fe80::1%eth0", "[::1]:1", "")
	f.Add("", "::ffff:1.2.3.4/120", "", "TLS")
	f.Fuzz(func(t *testing.T, account, network, relayed, transport string) {
		s := selector{account, network, relayed, transport}
		match, err := s.matcher(strings.ToLower, nil)
		if err == nil {
			match(event.Allocation{})
		}
		values, err := url.ParseQuery(s.query())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := selectorOf(values); err != nil || got != s {
			t.Errorf("%+v became %+v, %v", s, got, err)
		}
	})
}
