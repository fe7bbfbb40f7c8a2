package credential

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Issued says to which account a user name was issued. Account is empty if there are several.
type Issued struct{ Username, Account string }

// SetZeros makes the user names of this process begin with a number of zeros, at most MaxZeros, so that they differ from those of other
// processes with another number. Without it, there are none. Names that were issued before remain.
func (a *Accounts) SetZeros(zeros int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.zeros = min(max(zeros, 0), MaxZeros)
}

// Publish makes Issued return the names that are issued from now on.
func (a *Accounts) Publish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.publish = true
}

// Issued returns the user names that were issued to known accounts since the last call. It reports false if there were more than it
// remembers: then use All.
func (a *Accounts) Issued() (names []Issued, complete bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.fresh {
		holder, _ := a.holder(name)
		names = append(names, Issued{name.String(), holder})
	}
	complete = !a.lost
	a.fresh, a.lost = nil, false
	return names, complete
}

// All returns the user names that this process has issued to known accounts, and whose credentials have not expired, in the order of
// their expiry.
func (a *Accounts) All(now time.Time) (names []Issued) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []serial
	for _, generation := range [...]*issued{&a.known.old, &a.known.young} {
		for name := range generation.accounts {
			if name.second() > now.Unix() {
				all = append(all, name)
			}
		}
	}
	slices.SortFunc(all, func(x, y serial) int { return cmp.Or(cmp.Compare(x.second(), y.second()), cmp.Compare(x, y)) })
	for _, name := range slices.Compact(all) {
		holder, _ := a.holder(name)
		names = append(names, Issued{name.String(), holder})
	}
	return names
}

// Learn remembers what another process has issued. own is set if it was an earlier process of this machine: its accounts keep
// their names. A name with two accounts is attributed to neither. Names that Accounts does not issue are ignored.
func (a *Accounts) Learn(names []Issued, own bool, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	into, limit := &a.learned, maxLearned
	if own {
		into, limit = &a.known, maxIssued
	}
	for _, issued := range names {
		name, ok := parseSerial(issued.Username)
		if !ok || name.second() <= now.Unix() || len(issued.Account) > maxAccountLen {
			continue
		}
		account := strings.ToLower(issued.Account)
		into.age(now.Unix(), limit)
		if holder, taken := a.holder(name); taken && holder != account {
			a.forget(name)
			account = ""
		}
		into.young.add(account, name)
	}
}

// forget forgets a name.
func (a *Accounts) forget(name serial) {
	for _, generation := range [...]*issued{
		&a.known.young, &a.known.old, &a.unknown.young, &a.unknown.old, &a.learned.young, &a.learned.old,
	} {
		delete(generation.accounts, name)
	}
}
