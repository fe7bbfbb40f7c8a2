// Package rotation replaces the secret with which the machines of a cluster issue credentials, so that no credential is refused: all
// relays accept a new secret before any machine issues with it, and the old one as long as credentials that were issued with it are valid.
//
// Each machine holds the secrets of all rotations that are still accepted, and publishes them as entries of the cluster, which only
// machines with its key can read or make. What two machines say about one secret can be joined in any order, with the same result.
package rotation

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

const (
	// size is the length of a secret in bytes.
	size = 32
	// idLength is that of a cluster.SecretID.
	idLength = 16
	// leaseTime is how long an entry of a secret is valid that no other secret replaces. It is renewed when half of it has passed.
	leaseTime = 366 * 24 * time.Hour
	// maxLifetime bounds the lifetime of a credential in what other machines say.
	maxLifetime = 10 * leaseTime
	// margin is how much longer than the lifetime of a credential a secret is accepted that was replaced. It has room for announceFor.
	margin = time.Hour
	// announceFor is how long relays announce a secret that was replaced, so that a machine can issue with it that does not know that yet.
	announceFor = 10 * time.Minute
)

// A Secret is one that machines have made. Its times have whole seconds.
type Secret struct {
	ID    string // see cluster.SecretID
	Value credential.Secret
	// Number is greater than that of the secret that it replaces. Of two secrets with one number, that with the greater ID is the later.
	Number int64
	Made   time.Time
	// Issued is when all relays accepted it, so that machines issue with it. Zero until then.
	Issued time.Time
	// Lifetime is the longest validity of credentials that are issued with it.
	Lifetime time.Duration
	// Ends is when relays accept it no longer. Zero unless it was replaced.
	Ends time.Time

	stamp int64     // of the entry
	lease time.Time // when the entry ends while Ends is zero
	used  bool      // this machine may have issued with it
}

// newSecret returns a secret that replaces the one with a number.
func newSecret(value []byte, replaced int64, lifetime time.Duration, now time.Time) Secret {
	now = now.UTC().Truncate(time.Second)
	return Secret{
		ID: cluster.SecretID(value), Value: credential.NewSecret(value), Number: replaced + 1, Made: now, Lifetime: lifetime,
		stamp: cluster.NextStamp(now, 0), lease: now.Add(leaseTime),
	}
}

// compare orders secrets by which one replaces the other.
func compare(a, b Secret) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.ID, b.ID))
}

// accepted reports whether relays accept the secret.
func (s Secret) accepted(now time.Time) bool { return s.Ends.IsZero() || now.Before(s.Ends) }

// content is a Secret as the Value of an entry, in JSON.
type content struct {
	Secret   []byte    `json:"secret"`
	Number   int64     `json:"number"`
	Made     time.Time `json:"made"`
	Issued   time.Time `json:"issued,omitzero"`
	Lifetime int64     `json:"lifetime"` // seconds
	Ends     time.Time `json:"ends,omitzero"`
}

// prefix begins the names of entries, before the ID of a secret.
const prefix = "secret "

// entry returns the secret as an entry of the cluster.
func (s Secret) entry() cluster.Entry {
	text, err := json.Marshal(content{s.Value.Bytes(), s.Number, s.Made, s.Issued, int64(s.Lifetime / time.Second), s.Ends})
	if err != nil { // its times are of the years that JSON can have
		panic(err)
	}
	e := cluster.Entry{Name: prefix + s.ID, Stamp: s.stamp, Until: s.lease, Value: string(text)}
	if !s.Ends.IsZero() {
		e.Until = s.Ends
	}
	return e
}

// parse returns the secret of an entry.
func parse(e cluster.Entry) (s Secret, err error) {
	var c content
	if err := json.Unmarshal([]byte(e.Value), &c); err != nil {
		return s, err
	}
	s = Secret{
		ID: cluster.SecretID(c.Secret), Value: credential.NewSecret(c.Secret), Number: c.Number, Made: c.Made, Issued: c.Issued,
		Lifetime: time.Duration(c.Lifetime) * time.Second, Ends: c.Ends, stamp: e.Stamp, lease: e.Until,
	}
	switch id, _ := strings.CutPrefix(e.Name, prefix); {
	case s.ID != id:
		return s, errors.New("it is stored under another name")
	case len(c.Secret) != size:
		return s, fmt.Errorf("it has %d bytes, want %d", len(c.Secret), size)
	case c.Number < 1 || c.Number > 1<<53 || c.Lifetime < 0 || c.Lifetime > int64(maxLifetime/time.Second):
		return s, errors.New("its number or lifetime is out of range")
	case slices.ContainsFunc([]time.Time{c.Made, c.Issued, c.Ends}, func(t time.Time) bool { return t.Year() > 9998 }):
		return s, errors.New("it has a time after the year 9998")
	}
	if !s.Ends.IsZero() {
		s.lease = time.Time{}
	}
	return s, nil
}

// join returns what two machines know together about one secret.
func join(a, b Secret) Secret {
	latest := func(x, y time.Time) time.Time {
		if x.After(y) {
			return x
		}
		return y
	}
	a.Issued, a.Ends, a.lease = latest(a.Issued, b.Issued), latest(a.Ends, b.Ends), latest(a.lease, b.lease)
	a.Lifetime, a.stamp = max(a.Lifetime, b.Lifetime), max(a.stamp, b.stamp)
	return a
}

// says reports whether the entries of two secrets with one ID say the same, whatever their stamps.
func (s Secret) says(other Secret) bool {
	return s.Issued.Equal(other.Issued) && s.Ends.Equal(other.Ends) && s.Lifetime == other.Lifetime &&
		(!s.Ends.IsZero() || s.lease.Equal(other.lease))
}

// replace makes the secret end, when every credential has expired that was issued with it until now.
func (s *Secret) replace(now time.Time) {
	s.Ends = now.UTC().Truncate(time.Second).Add(s.Lifetime + margin)
}

// withdrawn is a secret that has ended, leaseTime before Until. It keeps what somebody without the key has copied from Redis before from being accepted again.
type withdrawn struct {
	ID    string    `json:"id"`
	Stamp int64     `json:"stamp"`
	Until time.Time `json:"until"`
}

// ended returns when the secret has ended.
func (w withdrawn) ended() time.Time { return w.Until.Add(-leaseTime) }

func (w withdrawn) entry() cluster.Entry {
	return cluster.Entry{Name: prefix + w.ID, Stamp: w.Stamp, Until: w.Until}
}
