package ban

import (
	"net/netip"
	"testing"
	"time"
)

func TestBanned(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	hour, minute := now.Add(time.Hour), now.Add(time.Minute)
	var l List
	var none *List
	for _, empty := range []*List{&l, none} {
		if empty.Banned("alice", "1", netip.MustParseAddr("192.0.2.1"), now) {
			t.Error("an empty list bans")
		}
	}
	l.Set([]Ban{
		{Account: "Alice@example.org", Usernames: []string{"1796421038"}, Until: hour},
		{Account: "carol", Until: minute}, {Account: "carol", Until: hour},
		{Account: "dave", Until: now},
		{Network: netip.MustParsePrefix("192.0.2.7/24"), Until: hour},
		{Network: netip.MustParsePrefix("198.51.100.7/32"), Until: hour}, {Network: netip.MustParsePrefix("198.51.100.7/32"), Until: minute},
		{Network: netip.MustParsePrefix("2001:db8::/64"), Until: hour},
		{Network: netip.MustParsePrefix("::/0"), Until: now},
	})
	for _, tt := range []struct {
		account, username, client string
		after                     time.Duration
		want                      bool
	}{
		{"alice@example.org", "1", "203.0.113.1", 0, true},
		{"ALICE@example.org", "1", "203.0.113.1", 59 * time.Minute, true},
		{"alice@example.org", "1", "203.0.113.1", time.Hour, false},
		{"1796421038", "1796421038", "203.0.113.1", 0, true},
		{"carol", "1", "203.0.113.1", 30 * time.Minute, true},
		{"dave", "1", "203.0.113.1", 0, false},
		{"", "", "203.0.113.1", 0, false},
		{"bob", "1", "192.0.2.200", 0, true},
		{"bob", "1", "::ffff:192.0.2.200", 0, true},
		{"bob", "1", "198.51.100.7", 30 * time.Minute, true},
		{"bob", "1", "198.51.100.8", 0, false},
		{"bob", "1", "2001:db8::5%eth0", 0, true},
		{"bob", "1", "2001:db8:0:1::5", 0, false},
	} {
		if got := l.Banned(tt.account, tt.username, netip.MustParseAddr(tt.client), now.Add(tt.after)); got != tt.want {
			t.Errorf("%q, %q, %s after %v: got %v, want %v", tt.account, tt.username, tt.client, tt.after, got, tt.want)
		}
	}
	l.Set(nil)
	if l.Banned("alice@example.org", "1", netip.MustParseAddr("192.0.2.1"), now) {
		t.Error("a ban that was lifted bans")
	}
}

func TestRevoked(t *testing.T) {
	now := time.Unix(1796000000, 0)
	var l List
	l.Set(nil, Revocation{Account: "Alice@example.org", Usernames: []string{"001796400000"}, Through: time.Unix(1796432000, 0)},
		Revocation{Account: "alice@example.org", Through: time.Unix(1796431000, 0)}, Revocation{Usernames: []string{"1796431999"}})
	for _, tt := range []struct {
		account, username string
		want              bool
	}{
		{"alice@example.org", "1796432000", true},
		{"ALICE@example.org", "0001796432000", true},
		{"alice@example.org", "1796432001", false},
		{"alice@example.org", "1796432000:alice@example.org", true},
		{"alice@example.org", "1796432001:alice@example.org", false},
		{"alice@example.org", "alice@example.org", false}, // a static user
		{"001796400000", "001796400000", true},            // of a process before, which does not know the account
		{"1796400000", "1796400000", false},
		{"bob@example.org", "1796431999", true},
		{"bob@example.org", "1796431998", false},
	} {
		if got := l.Banned(tt.account, tt.username, netip.MustParseAddr("192.0.2.1"), now); got != tt.want {
			t.Errorf("%q, %q: got %v, want %v", tt.account, tt.username, got, tt.want)
		}
	}
}
