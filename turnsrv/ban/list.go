// Package ban contains the accounts and networks that may not allocate for a limited time, and credentials that were revoked.
package ban

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Ban forbids allocations to an account, or to the clients in a network, until Until.
type Ban struct {
	// Account is the name of an account, as in credential.Subject. It is case-insensitive.
	Account string
	// Usernames contains user names of the account that the server cannot attribute to it, because a previous process issued them.
	Usernames []string
	// Network contains the clients' addresses, if Account is empty.
	Network netip.Prefix
	Until   time.Time
}

// List is a list of bans. Its zero value is empty. Safe for concurrent use.
type List struct{ table atomic.Pointer[table] }

// table is not modified once it is in a List.
type table struct {
	names    map[string]time.Time
	networks map[netip.Prefix]time.Time
	lengths  []int // distinct prefix lengths of the networks

	through   map[string]time.Time // see Revocation
	usernames map[string]bool      // that were revoked
}

// Set replaces the bans and the revocations.
func (l *List) Set(bans []Ban, revocations ...Revocation) {
	t := &table{
		names: make(map[string]time.Time), networks: make(map[netip.Prefix]time.Time),
		through: make(map[string]time.Time), usernames: make(map[string]bool),
	}
	for _, r := range revocations {
		if name := strings.ToLower(r.Account); name != "" && r.Through.After(t.through[name]) {
			t.through[name] = r.Through
		}
		for _, username := range r.Usernames {
			t.usernames[username] = true
		}
	}
	name := func(name string, until time.Time) {
		name = strings.ToLower(name)
		if until.After(t.names[name]) {
			t.names[name] = until
		}
	}
	for _, b := range bans {
		if b.Account == "" {
			network := b.Network.Masked()
			if b.Until.After(t.networks[network]) {
				t.networks[network] = b.Until
			}
			if !slices.Contains(t.lengths, network.Bits()) {
				t.lengths = append(t.lengths, network.Bits())
			}
			continue
		}
		name(b.Account, b.Until)
		for _, username := range b.Usernames {
			name(username, b.Until)
		}
	}
	l.table.Store(t)
}

// Banned reports whether a ban forbids allocations to the account, to the user name of its credential, or to the client's address, or
// the credential was revoked. A nil List contains no bans.
func (l *List) Banned(account, username string, client netip.Addr, now time.Time) bool {
	if l == nil {
		return false
	}
	t := l.table.Load()
	if t == nil {
		return false
	}
	if len(t.names) > 0 && (now.Before(t.names[strings.ToLower(account)]) || now.Before(t.names[strings.ToLower(username)])) {
		return true
	}
	if t.revoked(account, username) {
		return true
	}
	client = client.Unmap().WithZone("")
	for _, length := range t.lengths {
		// Prefix returns an error if the length exceeds that of an IPv4 address.
		if network, err := client.Prefix(length); err == nil && now.Before(t.networks[network]) {
			return true
		}
	}
	return false
}
