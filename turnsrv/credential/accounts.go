package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Accounts issues credentials whose user names are bare numbers, as Delta Chat wants them, and which can be told apart by
// account all the same: for quotas and logs of a relay in the same process.
//
// An account has seconds of its own. They are those that leave the same remainder as a keyed hash of the account, modulo a
// window of a tenth of the issuer's TTL, and an account's user name is the latest of them that is not later than the TTL
// allows. So the user name stays the same for the length of a window, however often it is asked for, and is another one
// than that of other accounts. Relays in other processes know nothing of this, and need not: a quota of allocations for
// each user name is one for each account there too, in all but name.
//
// Where the seconds of two accounts are the same, the one that asks later gets the second before. Where the account is not
// known, each credential has a second that nobody else has, so that it is counted by itself.
//
// Who has which user name is remembered as long as the credential lives, for the 65536 most recent accounts and as many
// credentials of unknown ones at least, and not beyond the end of the process. The zero value is ready for use. Its methods
// are safe for concurrent use.
type Accounts struct {
	mu             sync.Mutex // guards what follows
	known, unknown generations
}

// generations are what was issued, the older half to be forgotten next.
type generations struct{ young, old issued }

const (
	// windowsInTTL is the fraction of their TTL by which credentials may expire early.
	windowsInTTL = 10
	// maxIssued bounds each generation of what is remembered: 10 MB with user names of 30 bytes.
	maxIssued = 1 << 16
	// maxAccountLen bounds the name of an account in bytes. It is what the IMAP filter passes on at most.
	maxAccountLen = 255
	// maxProbes bounds how far a second is looked for that nobody has.
	maxProbes = 64
)

// issued is what was issued in one stretch of time.
type issued struct {
	accounts map[int64]string // by expiry; "" is several accounts, or one whose name is not known
	expiries map[string]int64 // the latest of each account
	last     int64            // the latest of all
}

// Issue returns a credential of issuer for account, which expires at now + TTL or up to a tenth of the TTL earlier. The case
// of letters in account does not matter. If account is empty or longer than 255 bytes, it is that of somebody
// who is not known.
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

// ShortestTTL returns how long a credential that Issue returns is valid, at least.
func (i Issuer) ShortestTTL() time.Duration { return i.TTL - i.TTL/windowsInTTL }

// Account returns whose credential username is, as Issue was told, in lower case. For somebody who was not known it is
// username, as long as nobody else has that. It is false for what several have, or was not issued here. A nil *Accounts knows
// nobody.
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

// accountHash is under the secret, so that nobody can compute which account a user name is of, and all processes that
// issue under one secret agree.
func accountHash(secret Secret, account string) uint64 {
	mac := hmac.New(sha256.New, secret.Bytes())
	mac.Write([]byte("account " + account))
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// second returns the second in the window that ends with latest at which a credential of account expires, and remembers it.
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

// ownSecond returns a second in the window that ends with latest which nobody has, the last one if it can be, and remembers
// it. If it finds none, it returns latest, which then is nobody's in particular. It takes even seconds alone, so that a flood of
// requests for nobody leaves accounts the other half.
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

// holder returns the account of a second, and whether it is taken.
func (a *Accounts) holder(second int64) (account string, taken bool) {
	for _, generation := range [...]*issued{&a.known.young, &a.known.old, &a.unknown.young, &a.unknown.old} {
		if account, taken = generation.accounts[second]; taken {
			return account, true
		}
	}
	return "", false
}

// age forgets the older half if it has expired, or to make room.
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
