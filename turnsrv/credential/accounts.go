package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Accounts issues credentials whose user names are plain numbers, as Delta Chat requires, and can still tell which account a
// user name was issued to. A relay in the same process uses this for quotas and logs.
//
// Each account has seconds of its own: those with the same remainder as a keyed hash of the account, modulo a window of a tenth
// of the issuer's TTL. The user name of an account is the latest of its seconds within the TTL. It therefore stays the same for
// the length of a window and differs from the user names of other accounts. Relays in other processes do not know the accounts,
// but a quota per user name is effectively a quota per account there too.
//
// If two accounts have the same seconds, the later one gets the preceding second. If the account is unknown, each credential
// gets a second that nobody else has, so that it is counted separately.
//
// User names are remembered for the lifetime of their credential, but not beyond the end of the process, and for at least the
// 65536 most recent accounts and as many credentials of unknown accounts. The zero value is ready for use. Safe for concurrent
// use.
//
// Several processes that issue credentials for the same relays can tell each other to whom: see SetZeros, Publish and Learn.
type Accounts struct {
	mu             sync.Mutex // guards what follows
	known, unknown generations
	learned        generations // issued by others

	revoked revocations
	zeros   int // with which the user names of this process begin
	// fresh are the names that were issued since the last call of Issued, while publish is set. lost is set if there were too many.
	fresh         []serial
	publish, lost bool
	// handover are the names that were issued since the last call of Record, while record is set.
	handover []serial
	record   bool
}

// generations contains the issued user names. The older generation is discarded next.
type generations struct{ young, old issued }

const (
	// windowsInTTL is the inverse of the fraction of the TTL by which credentials may expire early.
	windowsInTTL = 10
	// maxIssued limits the size of a generation: 10 MB with user names of 30 bytes.
	maxIssued = 1 << 16
	// maxLearned is the same for names that others have issued: 100 MB.
	maxLearned = 1 << 20
	// maxAccountLen limits the name of an account in bytes. The IMAP filter passes on no longer names.
	maxAccountLen = 255
	// maxProbes limits the search for a free second.
	maxProbes = 64
)

// issued contains the user names issued during one period.
type issued struct {
	accounts map[serial]string // "" for several accounts or an unknown one
	latest   map[string]serial // of each account
	last     int64             // latest expiry of all
}

// Issue returns a credential of issuer for account. It expires at now + TTL or up to a tenth of the TTL earlier. account is
// case-insensitive. If it is empty or longer than 255 bytes, the account is unknown.
func (a *Accounts) Issue(issuer Issuer, account string, now time.Time) Credential {
	if len(account) > maxAccountLen {
		account = ""
	}
	account = strings.ToLower(account)
	latest := now.Add(issuer.TTL).Unix()
	window := max(int64(issuer.TTL/time.Second)/windowsInTTL, 1)
	if account == "" {
		return issuer.serial(a.ownName(latest, window, now.Unix()))
	}
	remainder := int64(accountHash(issuer.Secret, account) % uint64(window))
	return issuer.serial(a.name(account, latest, window, remainder, now.Unix()))
}

// ShortestTTL returns the minimum validity of a credential returned by Accounts.Issue.
func (i Issuer) ShortestTTL() time.Duration { return i.TTL - i.TTL/windowsInTTL }

// Account returns the account to which username was issued, in lower case. If that account is unknown and nobody else has the
// user name, it returns username itself. It reports false if several accounts have the user name or it was not issued by a. A
// nil *Accounts contains no user names.
func (a *Accounts) Account(username string) (account string, ok bool) {
	if a == nil {
		return "", false
	}
	name, ok := parseSerial(username)
	if !ok { // +1758650868 was not issued here
		return "", false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	account, _ = a.holder(name)
	return account, account != ""
}

// Usernames returns the remembered user names that were issued to account and that the relay of this process attributes to it,
// sorted. account is case-insensitive.
func (a *Accounts) Usernames(account string) []string {
	return a.UsernamesOf([]string{account})[strings.ToLower(account)]
}

// UsernamesOf returns the result of Usernames for each of several accounts, by their names in lower case. It searches all accounts
// only once.
func (a *Accounts) UsernamesOf(accounts []string) map[string][]string {
	usernames := make(map[string][]string, len(accounts))
	if a == nil {
		return usernames
	}
	for _, account := range accounts {
		if account != "" {
			usernames[strings.ToLower(account)] = nil
		}
	}
	a.mu.Lock()
	for _, generation := range [...]*issued{&a.known.young, &a.known.old, &a.learned.young, &a.learned.old} {
		for name, holder := range generation.accounts {
			if of, wanted := usernames[holder]; wanted {
				if attributed, _ := a.holder(name); attributed == holder {
					usernames[holder] = append(of, name.String())
				}
			}
		}
	}
	a.mu.Unlock()
	for account, of := range usernames {
		slices.Sort(of)
		usernames[account] = slices.Compact(of)
	}
	return usernames
}

// accountHash is keyed with the secret, so that nobody else can compute the user name of an account, and all processes that
// issue credentials under one secret agree.
func accountHash(secret Secret, account string) uint64 {
	mac := hmac.New(sha256.New, secret.Bytes())
	mac.Write([]byte("account " + account))
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// name returns and remembers the user name of a credential of account, which expires within the window that ends at latest.
func (a *Accounts) name(account string, latest, window, remainder, now int64) serial {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known.age(now, maxIssued)
	if through := a.revoked.through[account]; through > latest-window { // some of the window is revoked
		latest = max(latest, through+min(window, maxProbes))
		window = latest - through
		remainder = (through + 1) % window // the first second that is not
	}
	inWindow := func(second int64) bool { return latest-window < second && second <= latest }
	for _, known := range [...]map[string]serial{a.known.young.latest, a.known.old.latest} {
		if name, ok := known[account]; ok && inWindow(name.second()) && !a.revoked.names[name] {
			if holder, _ := a.holder(name); holder == account {
				a.known.young.add(account, name)
				return name
			}
		}
	}
	own := latest - ((latest-remainder)%window+window)%window
	for i := range min(window, maxProbes) {
		second := own - i
		if !inWindow(second) {
			second += window
		}
		name := serialOf(a.zeros, second)
		if holder, taken := a.holder(name); !a.revoked.names[name] && (!taken || holder == account) {
			a.issue(account, name)
			return name
		}
	}
	a.issue("", serialOf(a.zeros, own))
	return serialOf(a.zeros, own)
}

// issue remembers a name of a known account, or one that several accounts have.
func (a *Accounts) issue(account string, name serial) {
	a.known.young.add(account, name)
	a.recordName(name)
	switch {
	case !a.publish, a.lost:
	case len(a.fresh) >= maxIssued:
		a.fresh, a.lost = nil, true
	default:
		a.fresh = append(a.fresh, name)
	}
}

// ownName returns and remembers a free user name in the window that ends at latest, preferably the last one. If it finds none, it
// returns the one for latest, which is then attributed to no account. It uses only even seconds, so that a flood of requests for
// unknown accounts leaves the other half free.
func (a *Accounts) ownName(latest, window, now int64) serial {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unknown.age(now, maxIssued)
	if half := window / 2; half > 0 {
		second := latest &^ 1
		for range maxProbes {
			name := serialOf(a.zeros, second)
			if _, taken := a.holder(name); !taken {
				a.unknown.young.add(name.String(), name)
				a.recordName(name)
				return name
			}
			second = latest&^1 - 2*rand.Int64N(half)
		}
	}
	a.known.age(now, maxIssued)
	name := serialOf(a.zeros, latest)
	a.issue("", name)
	return name
}

// holder returns the account of a user name and whether the name is taken.
func (a *Accounts) holder(name serial) (account string, taken bool) {
	for _, generation := range [...]*issued{
		&a.known.young, &a.known.old, &a.unknown.young, &a.unknown.old, &a.learned.young, &a.learned.old,
	} {
		if account, taken = generation.accounts[name]; taken {
			return account, true
		}
	}
	return "", false
}

// age discards the older generation if it has expired, or if the younger one has limit names.
func (g *generations) age(now int64, limit int) {
	if now > g.old.last || len(g.young.accounts) >= limit {
		g.old, g.young = g.young, issued{}
	}
}

func (i *issued) add(account string, name serial) {
	if i.accounts == nil {
		i.accounts, i.latest = make(map[serial]string), make(map[string]serial)
	}
	i.accounts[name] = account
	if account != "" {
		i.latest[account] = name
	}
	i.last = max(i.last, name.second())
}
