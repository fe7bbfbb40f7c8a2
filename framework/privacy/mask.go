// Package privacy shortens or hashes the addresses and accounts of users in what a server writes and shows.
package privacy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Mode is what becomes of an address or an account.
type Mode string

// Modes.
const (
	None    Mode = "none"    // nothing
	Shorten Mode = "shorten" // the network of an address, or the first letter and the domain of an account
	Hash    Mode = "hash"    // a keyed hash, with another key each day and after each start
)

// ParseMode returns the mode with a name.
func ParseMode(name string) (Mode, error) {
	switch mode := Mode(name); mode {
	case None, Shorten, Hash:
		return mode, nil
	}
	return None, fmt.Errorf("%q: want none, shorten or hash", name)
}

// Settings are the modes for each kind.
type Settings struct{ Addresses, Accounts Mode }

// Lengths of the networks that addresses are shortened to: an IPv4 /24 and an IPv6 /48, which are assumed to belong to one site.
const (
	bits4 = 24
	bits6 = 48
)

// Mask masks addresses and accounts. A nil Mask masks nothing. Safe for concurrent use.
type Mask struct {
	key      [sha256.Size]byte
	now      func() time.Time
	settings atomic.Pointer[Settings]
}

// New returns a Mask with a random key, which is not stored anywhere.
func New(settings Settings) *Mask {
	m := &Mask{now: time.Now}
	_, _ = rand.Read(m.key[:]) // never fails
	m.Apply(settings)
	return m
}

// Apply replaces the settings.
func (m *Mask) Apply(settings Settings) { m.settings.Store(&settings) }

func (m *Mask) modes() Settings {
	if m == nil {
		return Settings{None, None}
	}
	return *m.settings.Load()
}

// isNobodys reports whether an address identifies nobody: those of loopback and unspecified ones.
func isNobodys(addr netip.Addr) bool {
	plain := addr.Unmap().WithZone("")
	return !addr.IsValid() || plain.IsLoopback() || plain.IsUnspecified()
}

// Addr returns addr as text. Addresses that are nobody's stay as they are.
func (m *Mask) Addr(addr netip.Addr) string {
	if isNobodys(addr) {
		return addr.String()
	}
	plain := addr.Unmap().WithZone("")
	switch m.modes().Addresses {
	case Shorten:
		return shortened(plain, plain.BitLen()).String()
	case Hash:
		return m.hash(m.now(), "address", plain.String())
	}
	return addr.String()
}

// shortened returns the network of addr, or a shorter prefix if there are fewer bits.
func shortened(addr netip.Addr, bits int) netip.Prefix {
	most := bits6
	if addr.Is4() {
		most = bits4
	}
	network, _ := addr.Prefix(min(bits, most)) // fails for no valid length
	return network
}

// Prefix returns a network as text.
func (m *Mask) Prefix(network netip.Prefix) string {
	addr := network.Addr()
	if !network.IsValid() || isNobodys(addr) {
		return network.String()
	}
	switch m.modes().Addresses {
	case Shorten:
		return shortened(addr, network.Bits()).String()
	case Hash:
		return m.hash(m.now(), "address", network.Masked().String())
	}
	return network.String()
}

// AddrPort returns at as text, without the port if the address is masked: the two and a time identify somebody behind a NAT.
func (m *Mask) AddrPort(at netip.AddrPort) string {
	if masked := m.Addr(at.Addr()); at.IsValid() && masked != at.Addr().String() {
		return masked
	}
	return at.String()
}

// Account returns the name of an account, or the user name of a credential. Case does not matter for the hash.
func (m *Mask) Account(name string) string {
	if m.modes().Accounts == None {
		return name
	}
	return m.AccountOn(m.now(), name)
}

// AccountOn is Account with the key of the day of UTC that a time is in.
func (m *Mask) AccountOn(day time.Time, name string) string {
	if name == "" {
		return name
	}
	switch m.modes().Accounts {
	case Shorten:
		local, domain, hasDomain := strings.Cut(name, "@")
		_, first := utf8.DecodeRuneInString(local)
		if hasDomain {
			return local[:first] + "…@" + domain
		}
		return local[:first] + "…"
	case Hash:
		return m.hash(day, "account", strings.ToLower(name))
	}
	return name
}

// IsMasked reports whether an account has the form of what Account returns now. It may still be the name of an account.
func (m *Mask) IsMasked(account string) bool {
	switch m.modes().Accounts {
	case Shorten:
		_, first := utf8.DecodeRuneInString(account)
		local, _, _ := strings.Cut(account[first:], "@")
		return local == "…"
	case Hash:
		digest, ok := strings.CutPrefix(account, "account-")
		_, err := hex.DecodeString(digest)
		return ok && err == nil && len(digest) == 2*hashBytes
	}
	return false
}

// hashBytes is the length of a hash: enough that two accounts of one server hardly ever have the same.
const hashBytes = 6

// hash returns the hash of a value with the key of a day.
func (m *Mask) hash(at time.Time, kind, value string) string {
	day := hmac.New(sha256.New, m.key[:])
	day.Write([]byte(at.UTC().Format(time.DateOnly)))
	mac := hmac.New(sha256.New, day.Sum(nil))
	mac.Write([]byte(kind + " " + value))
	return kind + "-" + hex.EncodeToString(mac.Sum(nil)[:hashBytes])
}
