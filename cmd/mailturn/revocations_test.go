package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/cluster/redistest"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestRevokeOnAllMachines wants the credentials of an account to be refused on all machines within a second after they were revoked on one,
// its calls to end, and a credential that any machine issues afterwards to be accepted everywhere; over a restart without Redis, too.
func TestRevokeOnAllMachines(t *testing.T) {
	redisServer := redistest.Start(t)
	one, two := runMember(t, redisServer, "one"), runMember(t, redisServer, "two")
	username, password := one.credential(t, "alice@example.org")
	soon(t, "the relay knows whose credential it is", two.knows(t, "alice@example.org", username, password))
	bobUser, bobPassword := two.credential(t, "bob@example.org")
	two.allocate(t, bobUser, bobPassword)

	one.want(t, 0, "Revoked: the credentials of alice@example.org.", "revoke", "Alice@example.org", "--reason", "phone stolen")
	if took := soon(t, "her calls elsewhere end", two.count(t, "alice@example.org", 0)); took > time.Second {
		t.Errorf("a revocation is in force on another machine after %v", took)
	}
	// The next credential would expire later than relays accept.
	one.want(t, 1, "want one of at most 8783h58m0s", "revoke", "alice@example.org", "--lifetime", "8784h")
	for _, r := range []*relaying{one, two} {
		soon(t, "her credential is refused", r.answers(t, username, password, 403))
		r.want(t, 0, "phone stolen", "revocations")
		newUser, newPassword := r.credential(t, "alice@example.org")
		for _, relay := range []*relaying{one, two} {
			if err := relay.answers(t, newUser, newPassword, 0)(); err != nil {
				t.Errorf("a credential that was issued after the revocation: %v", err)
			}
		}
	}
	if err := two.count(t, "bob@example.org", 1)(); err != nil {
		t.Error(err)
	}

	one.want(t, 0, "Revoked: the credential "+bobUser+". Sessions that ended: 0.", "revoke", bobUser)
	soon(t, "his call elsewhere ends", two.count(t, "bob@example.org", 0))
	soon(t, "his credential is refused", two.answers(t, bobUser, bobPassword, 403))
	bobUser, bobPassword = two.credential(t, "bob@example.org")
	if err := one.answers(t, bobUser, bobPassword, 0)(); err != nil {
		t.Errorf("his next credential: %v", err)
	}

	redisServer.Kill()
	two.stop()
	two.stop = two.start(t, two.configuration)
	soon(t, "without Redis, after a restart", two.answers(t, username, password, 403))
	if err := two.answers(t, bobUser, bobPassword, 0)(); err != nil {
		t.Errorf("his next credential, after a restart: %v", err)
	}
}

// TestMergeRevocations wants the later of two revocations to be in force, whatever else Redis has to be ignored, and no more than some to be
// taken.
func TestMergeRevocations(t *testing.T) {
	now := time.Now()
	logger := slog.New(slog.DiscardHandler)
	expiring := func(after time.Duration) string { return strconv.FormatInt(now.Add(after).Unix(), 10) }
	usernames := func(string) []string { return []string{expiring(time.Hour), expiring(100 * time.Hour)} }
	b := &bans{accounts: new(credential.Accounts)}
	b.load(t.TempDir(), logger)
	old := revocation{Account: "alice", Until: now.Add(2 * time.Hour), Stamp: 1}
	late := revocation{Account: "alice", Until: now.Add(3 * time.Hour), Stamp: 2}
	for _, e := range []cluster.Entry{
		old.entry(), late.entry(), old.entry(),
		{Name: accountRevocation + "bob", Stamp: 1, Until: late.Until, Value: late.entry().Value},
		{Name: accountRevocation + "carol", Stamp: 1, Until: late.Until, Value: "{}"},
		{Name: accountRevocation + "carol", Stamp: 1, Until: late.Until},
		{Name: accountRevocation + "dave", Stamp: 1, Until: now, Value: revocation{Account: "dave"}.entry().Value},
	} {
		b.mergeRevoked([]cluster.Entry{e}, usernames, logger)
	}
	got := b.currentRevocations()
	if len(got) != 1 || !got[0].Until.Equal(late.Until) || len(got[0].Usernames) != 1 {
		t.Fatalf("%+v", got)
	}
	var client netip.Addr
	for username, want := range map[string]bool{expiring(time.Hour): true, expiring(150 * time.Minute): true, expiring(4 * time.Hour): false} {
		if b.list.Banned("alice", username, client, now) != want {
			t.Errorf("%s is revoked: %v", username, !want)
		}
	}
	if !b.list.Banned("", expiring(time.Hour), client, now) || b.list.Banned("", expiring(100*time.Hour), client, now) {
		t.Error("user names of the account that are known")
	}
	again := new(bans)
	again.load(strings.TrimSuffix(b.path, bansFile), logger)
	if held := again.held(); len(held) != 1 || held[0].Name != accountRevocation+"alice" || held[0].Stamp != 2 {
		t.Errorf("after a restart: %+v", held)
	}
	var entries []cluster.Entry
	for i := range 2 * maxBans {
		entries = append(entries, revocation{Account: fmt.Sprint("user", i), Until: late.Until, Stamp: 1}.entry())
	}
	searches := 0
	b.mergeRevoked(entries, func(string) []string { searches++; return nil }, logger)
	if n := len(b.currentRevocations()); n != maxBans || searches >= maxBans {
		t.Errorf("%d revocations, after %d searches for user names", n, searches)
	}
}

// TestRevokeAgain wants what was revoked to stay revoked if the account is revoked again for less time, here or on another machine.
func TestRevokeAgain(t *testing.T) {
	now := time.Now()
	b := new(bans)
	b.load(t.TempDir(), slog.New(slog.DiscardHandler))
	long, short := revocation{Account: "alice", Until: now.Add(100 * time.Hour)}, revocation{Account: "alice", Until: now.Add(time.Hour)}
	username := strconv.FormatInt(now.Add(50*time.Hour).Unix(), 10) + ":alice"
	want := func(what string) {
		t.Helper()
		if !b.list.Banned("alice", username, netip.Addr{}, now) {
			t.Errorf("%s: a credential that was revoked is accepted again", what)
		}
	}
	if _, err := b.revoke(long); err != nil {
		t.Fatal(err)
	}
	entry, err := b.revoke(short)
	if err != nil {
		t.Fatal(err)
	}
	want("revoked again")
	if entry.Until.Before(long.Until) {
		t.Errorf("other machines are told that it ends at %v", entry.Until)
	}
	short.Stamp = entry.Stamp + 1
	b.mergeRevoked([]cluster.Entry{short.entry()}, func(string) []string { return nil }, slog.New(slog.DiscardHandler))
	want("revoked again on another machine")
}

func TestRevocationTarget(t *testing.T) {
	now := time.Unix(1796000000, 0)
	for target, want := range map[string]revocationRequest{
		"1796432000":       {Username: "1796432000"},
		"01796432000":      {Username: "01796432000"},
		"1796432000:alice": {Username: "1796432000:alice"},
		"alice":            {Account: "alice"},
		"4915112345678":    {Account: "4915112345678"}, // a telephone number
		"1795999999":       {Account: "1795999999"},
	} {
		if got := revocationRequestOf(target, now); got != want {
			t.Errorf("%s: %+v", target, got)
		}
	}
}

// TestStrangers wants one warning when relays accept no secret of this machine for a while, and another one only after that has ended.
func TestStrangers(t *testing.T) {
	var w strangerWatch
	now := time.Unix(1796000000, 0)
	warnings := 0
	for second := range 100 {
		names := []string{"turn2"}
		if second == 4 || second == 50 {
			names = nil
		}
		if len(w.look(names, now.Add(time.Duration(second)*time.Second))) > 0 {
			warnings++
		}
	}
	if warnings != 2 {
		t.Errorf("%d warnings, want 2", warnings)
	}
}
