package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/endpoint/credsock"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/cluster/redistest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// clustered are attributes and blocks that make a relay a member of a cluster which issues credentials for all.
const clustered = `
cluster {
  redis       = ["redis://%s"]
  key         = "0123456789abcdef0123456789abcdef"
  name        = %q
  turn_server = "127.0.0.1"
}
endpoint "dict" "dict" {
  path = "%s/dict"
}
`

// runMember runs a relay that is a member of a cluster.
func runMember(t *testing.T, redisServer *redistest.Server, name string) *relaying {
	t.Helper()
	r := runRelay(t)
	r.stop()
	r.configuration = strings.Replace(r.configuration, "realm ", "secret = \"a secret of all machines, of 32 bytes\"\n  realm ", 1) +
		fmt.Sprintf(clustered, redisServer.Addr, name, r.dir)
	r.stop = r.start(t, r.configuration)
	return r
}

// soon waits until f returns nil, and returns how long that took.
func soon(t *testing.T, what string, f func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := f()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// count returns a condition: that the member has n sessions of an account.
func (r *relaying) count(t *testing.T, account string, n int) func() error {
	return func() error {
		if sessions := r.sessions(t, "--account", account); len(sessions) != n {
			return fmt.Errorf("%s has %d sessions, want %d: %+v\n%s", account, len(sessions), n, r.sessions(t), r.log)
		}
		return nil
	}
}

// answers returns a condition: that the relay answers an Allocate request with a code, 0 for success.
func (r *relaying) answers(t *testing.T, username, password string, code int) func() error {
	return func() error {
		_, err := r.client(t, username, password).Allocate(t.Context())
		if got := turnclient.Code(err); int(got) != code || code == 0 && err != nil {
			return fmt.Errorf("%v, want %d", err, code)
		}
		return nil
	}
}

// knows returns a condition: that the relay knows that a credential is that of an account.
func (r *relaying) knows(t *testing.T, account, username, password string) func() error {
	return func() error {
		r.allocate(t, username, password)
		if len(r.sessions(t, "--account", account)) == 0 {
			return fmt.Errorf("%+v\n%s", r.sessions(t), r.log)
		}
		return nil
	}
}

// TestBanOfAllMachines wants a ban to hold on all machines within a second, for credentials that another one has issued, over restarts of
// the machines and of Redis, until it is lifted on any of them.
func TestBanOfAllMachines(t *testing.T) {
	redisServer := redistest.Start(t)
	one, two := runMember(t, redisServer, "one"), runMember(t, redisServer, "two")
	username, password := one.credential(t, "alice@example.org")
	soon(t, "the relay knows whose credential it is", two.knows(t, "alice@example.org", username, password))
	bobUser, bobPassword := two.credential(t, "bob@example.org")
	if bobUser == username {
		t.Fatalf("two machines issue the user name %s", username)
	}
	two.allocate(t, bobUser, bobPassword)

	one.want(t, 0, "Banned: alice@example.org", "ban", "alice@example.org", "--for", "1h")
	took := soon(t, "her calls elsewhere end", two.count(t, "alice@example.org", 0))
	if took > time.Second {
		t.Errorf("a ban is in force on another machine after %v", took)
	}
	if err := two.count(t, "bob@example.org", 1)(); err != nil {
		t.Error(err)
	}
	soon(t, "the other machine refuses her", two.answers(t, username, password, 403))

	redisServer.Kill()
	two.stop()
	two.stop = two.start(t, two.configuration)
	soon(t, "without Redis, after a restart", two.answers(t, username, password, 403))
	one.want(t, 0, "Redis cannot be used: other machines will learn of this when it can.", "ban", "192.0.2.1")
	redisServer.Run(t)
	late := runMember(t, redisServer, "late")
	soon(t, "a machine that joins after Redis has lost everything", late.answers(t, username, password, 403))
	soon(t, "the ban that was made without Redis", func() error {
		if _, printed := late.ctl("bans"); !strings.Contains(printed, "192.0.2.1/32") {
			return fmt.Errorf("%s", printed)
		}
		return nil
	})

	two.want(t, 0, "Lifted.", "unban", "alice@example.org")
	for _, r := range []*relaying{one, two, late} {
		soon(t, "the ban was lifted on another machine", r.answers(t, username, password, 0))
	}
	one.want(t, 0, "No session matches.", "disconnect", "--account", "carol@example.org")
	if err := late.count(t, "alice@example.org", 1)(); err != nil {
		t.Error(err)
	}
	one.want(t, 0, "Ended: alice@example.org", "disconnect", "--account", "Alice@example.org")
	soon(t, "her calls elsewhere end", late.count(t, "alice@example.org", 0))
}

// TestQuotaOfAllMachines wants a user who has all that user_quota allows on one relay to get no more on another one.
func TestQuotaOfAllMachines(t *testing.T) {
	redisServer := redistest.Start(t)
	one, two := runMember(t, redisServer, "one"), runMember(t, redisServer, "two")
	username, password := one.credential(t, "alice@example.org")
	const quota = 40 // the default
	for range quota {
		one.allocate(t, username, password)
	}
	soon(t, "the other relay refuses more", two.answers(t, username, password, 486))
	if n := len(two.sessions(t, "--account", "alice@example.org")); n >= quota {
		t.Errorf("%d sessions on the other relay", n)
	}
	one.want(t, 0, "Ended: ", "disconnect", "--account", "alice@example.org")
	soon(t, "the other relay accepts calls again", two.answers(t, username, password, 0))
}

// TestCallsOfAllMachines wants the calls of a user to count on all relays, but not the allocations that carry none. A second call may have
// moved from the first one; a third one may not.
func TestCallsOfAllMachines(t *testing.T) {
	redisServer := redistest.Start(t)
	one, two := runMember(t, redisServer, "one"), runMember(t, redisServer, "two")
	for _, r := range []*relaying{one, two} {
		r.stop()
		r.configuration = strings.Replace(r.configuration, "realm ", "user_calls = 1\n  realm ", 1)
		r.stop = r.start(t, r.configuration)
	}
	username, password := one.credential(t, "alice@example.org")
	soon(t, "the relay knows whose credential it is", two.knows(t, "alice@example.org", username, password))
	_, peer := one.allocate(t, username, password)
	// talk sends what is no check of ICE, and returns how the relay answers a request for a permission after it.
	talk := func(c *turnclient.Client) stun.ErrorCode {
		t.Helper()
		if err := c.CreatePermission(t.Context(), peer.Addr()); err != nil {
			t.Fatal(err)
		}
		if err := c.Send(peer, []byte{0x80, 0x60, 0, 1}); err != nil {
			t.Fatal(err)
		}
		return turnclient.Code(c.CreatePermission(t.Context(), peer.Addr()))
	}
	var clients []*turnclient.Client
	for _, r := range []*relaying{one, two, one} { // an ICE agent allocates on all relays
		c, _ := r.allocate(t, username, password)
		if err := c.CreatePermission(t.Context(), peer.Addr()); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	for i, c := range clients[:2] {
		if code := talk(c); code != 0 {
			t.Errorf("call %d is refused with %d", 1+i, code)
		}
	}
	soon(t, "with two calls on two relays, a third one is refused", func() error {
		c, _ := one.allocate(t, username, password)
		defer c.Refresh(t.Context(), 0)
		if code := talk(c); code != 508 {
			return fmt.Errorf("a permission is answered %d, want 508", code)
		}
		return nil
	})
	if code := turnclient.Code(clients[2].CreatePermission(t.Context(), peer.Addr())); code != 0 {
		t.Errorf("on an allocation without a call, a permission is answered %d", code)
	}
	for _, c := range clients {
		if _, err := c.Refresh(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	soon(t, "after the calls have ended, another one begins", func() error {
		c, _ := two.allocate(t, username, password)
		defer c.Refresh(t.Context(), 0)
		if code := talk(c); code != 0 {
			return fmt.Errorf("a permission is answered %d", code)
		}
		return nil
	})
}

// TestIssuerDuringReload wants the number of zeros, which the goroutine that follows Redis sets, to be stored in the state directory while
// a reload replaces the setup.
func TestIssuerDuringReload(t *testing.T) {
	s := &setup{stateDir: t.TempDir(), sockets: make([]credsock.Config, 1)}
	s.sockets[0].Issuer.TTL.V = time.Hour
	r := &service{setup: s, logger: slog.New(slog.DiscardHandler)}
	names := r.sharedNames()
	var following sync.WaitGroup
	following.Go(func() { names.SetZeros(3) })
	r.setup = &setup{}
	following.Wait()
	if state := r.loadIssuer(s.stateDir); state != (issuerState{names.Issuer, 3}) {
		t.Errorf("stored: %+v, want issuer %s with 3 zeros", state, names.Issuer)
	}
}

// TestMergeBans wants the later of two changes to be in force on a machine that hears of them in any order.
func TestMergeBans(t *testing.T) {
	now := time.Now()
	logger := slog.New(slog.DiscardHandler)
	usernames := func(account string) []string { return []string{"2000000000"} }
	newBans := func() *bans {
		b := new(bans)
		b.load(t.TempDir(), logger)
		return b
	}
	one := newBans()
	made, err := one.add(banReport{Account: "alice", Until: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	lifted, err := one.lift("alice")
	if err != nil {
		t.Fatal(err)
	}
	again, err := one.add(banReport{Account: "alice", Until: now.Add(2 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		entries []cluster.Entry
		want    int
	}{
		{"made", []cluster.Entry{made}, 1},
		{"lifted", []cluster.Entry{made, lifted}, 0},
		{"lifted, in another order", []cluster.Entry{lifted, made}, 0},
		{"made again", []cluster.Entry{made, lifted, again}, 1},
		{"made again, in another order", []cluster.Entry{again, made, lifted}, 1},
		{"ended", []cluster.Entry{{Name: made.Name, Stamp: made.Stamp, Until: now, Value: made.Value}}, 0},
		{"another name", []cluster.Entry{{Name: accountBan + "bob", Stamp: 1, Until: again.Until, Value: made.Value}}, 0},
		{"not a ban", []cluster.Entry{{Name: accountBan + "bob", Stamp: 1, Until: again.Until, Value: "{}"}}, 0},
		{"something else", []cluster.Entry{{Name: "alice", Stamp: 1, Until: again.Until, Value: made.Value}}, 0},
	} {
		b := newBans()
		for _, e := range tt.entries {
			b.merge([]cluster.Entry{e}, usernames, logger)
		}
		got := b.current()
		if len(got) != tt.want {
			t.Errorf("%s: %+v", tt.name, got)
		} else if len(got) == 1 && (len(got[0].Usernames) != 1 || !b.list.Banned("", "2000000000", netip.Addr{}, now)) {
			t.Errorf("%s: the user name is not banned: %+v", tt.name, got)
		}
		if len(b.held()) > 1 {
			t.Errorf("%s: holds %+v", tt.name, b.held())
		}
	}
	if got := one.held(); len(got) != 1 || got[0] != again {
		t.Errorf("holds %+v, want %+v", got, again)
	}
}

// TestMergeTooManyBans wants bans for which there is no room to cost no search for user names and one line of the log, while bans in
// force can be extended and lifted.
func TestMergeTooManyBans(t *testing.T) {
	var printed bytes.Buffer
	b := new(bans)
	b.load("", nil)
	until := time.Now().Add(time.Hour)
	ban := func(i int, stamp int64) cluster.Entry {
		return banReport{Account: fmt.Sprintf("user%d@example.org", i), Until: until, Stamp: stamp}.entry()
	}
	var entries []cluster.Entry
	for i := range maxBans + 100 {
		entries = append(entries, ban(i, 1))
	}
	lifted := ban(0, 2)
	lifted.Value = ""
	searches := 0
	made := b.merge(append(entries, ban(1, 2), lifted), func(string) []string { searches++; return nil }, slog.New(slog.NewTextHandler(&printed, nil)))
	if len(made) != maxBans+1 || searches != maxBans+1 || len(b.current()) != maxBans-1 {
		t.Errorf("%d bans made, %d in force, after %d searches for user names; want %d, %d and %d",
			len(made), len(b.current()), searches, maxBans+1, maxBans-1, maxBans+1)
	}
	if n := strings.Count(printed.String(), "level=ERROR"); n != 1 || !strings.Contains(printed.String(), "count=100 first.account=user4096@example.org") {
		t.Errorf("the log has %d errors, want one with the number of bans", n)
	}
}

// TestStampAllocates wants the search for a stamp to allocate nothing for each ban that was lifted.
func TestStampAllocates(t *testing.T) {
	var stored storedBans
	for i := range maxBans {
		stored.Lifted = append(stored.Lifted, liftedBan{Name: accountBan + fmt.Sprintf("user%d@example.org", i), Stamp: int64(i)})
	}
	const target = "user7@a-name-that-does-not-fit-into-a-buffer-on-the-stack.example.org"
	if n := testing.AllocsPerRun(10, func() { stored.stamp(target) }); n > 2 {
		t.Errorf("%v allocations", n)
	}
}

// TestUsernamesOfSeveralAccounts wants user names without an account to be stored with no ban of a network.
func TestUsernamesOfSeveralAccounts(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	b := new(bans)
	b.load(t.TempDir(), logger)
	until := time.Now().Add(time.Hour)
	for _, r := range []banReport{{Account: "alice", Until: until}, {Network: "192.0.2.0/24", Usernames: []string{"2000000000"}, Until: until}} {
		if _, err := b.add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.addUsernames(map[string][]string{"": {"2000000000"}, "alice": {"2000000001"}}); err != nil {
		t.Fatal(err)
	}
	shared := banReport{Network: "198.51.100.0/24", Until: until, Stamp: 1}
	b.merge([]cluster.Entry{shared.entry()}, func(string) []string { return []string{"2000000000"} }, logger)
	for _, r := range b.current() {
		if want := map[bool]int{true: 1}[r.Account == "alice"]; len(r.Usernames) != want {
			t.Errorf("%s has the user names %v", r.target(), r.Usernames)
		}
	}
	if n := len(b.current()); n != 3 {
		t.Errorf("%d bans", n)
	}
}
