package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
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
type Accounts struct {
	mu             sync.Mutex // guards what follows
	known, unknown generations
}

// generations contains the issued user names. The older generation is discarded next.
type generations struct{ young, old issued }

const (
	// windowsInTTL is the inverse of the fraction of the TTL by which credentials may expire early.
	windowsInTTL = 10
	// maxIssued limits the size of a generation: 10 MB with user names of 30 bytes.
	maxIssued = 1 << 16
	// maxAccountLen limits the name of an account in bytes. The IMAP filter passes on no longer names.
	maxAccountLen = 255
	// maxProbes limits the search for a free second.
	maxProbes = 64
)

// issued contains the user names issued during one period.
type issued struct {
	accounts map[int64]string // by expiry; "" for several accounts or an unknown one
	expiries map[string]int64 // latest expiry of each account
	last     int64            // latest expiry of all
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
		return issuer.at(a.ownSecond(latest, window, now.Unix()))
	}
	remainder := int64(accountHash(issuer.Secret, account) % uint64(window))
	return issuer.at(a.second(account, latest, window, remainder, now.Unix()))
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
	expires, err := strconv.ParseInt(username, 10, 64)
	if err != nil || strconv.FormatInt(expires, 10) != username { // +1758650868 was not issued here
		return "", false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	account, _ = a.holder(expires)
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
	for _, generation := range [...]*issued{&a.known.young, &a.known.old} {
		for second, holder := range generation.accounts {
			if of, wanted := usernames[holder]; wanted {
				usernames[holder] = append(of, strconv.FormatInt(second, 10))
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

// second returns and remembers the expiry of a credential of account, within the window that ends at latest.
func (a *Accounts) second(account string, latest, window, remainder, now int64) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known.age(now)
	inWindow := func(second int64) bool { return latest-window < second && second <= latest }
	for _, known := range [...]map[string]int64{a.known.young.expiries, a.known.old.expiries} {
		if second, ok := known[account]; ok && inWindow(second) {
			if holder, _ := a.holder(second); holder == account {
				a.known.young.add(account, second)
				return second
			}
		}
	}
	own := latest - ((latest-remainder)%window+window)%window
	for i := range min(window, maxProbes) {
		second := own - i
		if !inWindow(second) {
			second += window
		}
		if holder, taken := a.holder(second); !taken || holder == account {
			a.known.young.add(account, second)
			return second
		}
	}
	a.known.young.add("", own)
	return own
}

// ownSecond returns and remembers a free second in the window that ends at latest, preferably the last one. If it finds none,
// it returns latest, which is then attributed to no account. It uses only even seconds, so that a flood of requests for unknown
// accounts leaves the other half free.
func (a *Accounts) ownSecond(latest, window, now int64) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unknown.age(now)
	if half := window / 2; half > 0 {
		second := latest &^ 1
		for range maxProbes {
			if _, taken := a.holder(second); !taken {
				a.unknown.young.add(strconv.FormatInt(second, 10), second)
				return second
			}
			second = latest&^1 - 2*rand.Int64N(half)
		}
	}
	a.known.age(now)
	a.known.young.add("", latest)
	return latest
}

// holder returns the account of a second and whether the second is taken.
func (a *Accounts) holder(second int64) (account string, taken bool) {
	for _, generation := range [...]*issued{&a.known.young, &a.known.old, &a.unknown.young, &a.unknown.old} {
		if account, taken = generation.accounts[second]; taken {
			return account, true
		}
	}
	return "", false
}

// age discards the older generation if it has expired or there is no more room.
func (g *generations) age(now int64) {
	if now > g.old.last || len(g.young.accounts) >= maxIssued {
		g.old, g.young = g.young, issued{}
	}
}

func (i *issued) add(account string, second int64) {
	if i.accounts == nil {
		i.accounts, i.expiries = make(map[int64]string), make(map[string]int64)
	}
	i.accounts[second] = account
	if account != "" {
		i.expiries[account] = second
	}
	i.last = max(i.last, second)
}
