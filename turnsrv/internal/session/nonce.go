package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
)

// NonceKeyLen is the length of Config.NonceKey in bytes.
const NonceKeyLen = 32

const (
	nonceMACLen = 8
	nonceLen    = 4 + nonceMACLen
)

var nonceEncoding = base64.RawURLEncoding

// nonces issues and verifies the nonces of RFC 8489 section 9.2 without storing them. A nonce is the second of issue followed
// by a MAC over that second and the client's 5-tuple. It is short because it makes up most of the response to an
// unauthenticated request. Safe for concurrent use.
type nonces struct {
	key      [NonceKeyLen]byte
	lifetime time.Duration
	start    time.Time // when the clock of nonces showed base
	base     time.Time
	macs     sync.Pool // of *nonceMAC
}

// newNonces returns nonces that are made with key, or with a random one if that is nil.
func newNonces(key []byte, lifetime time.Duration) *nonces {
	now := time.Now()
	n := &nonces{lifetime: lifetime, start: now, base: now.Round(0)}
	if key == nil {
		_, _ = rand.Read(n.key[:]) // never fails
	}
	copy(n.key[:], key)
	n.macs.New = func() any { return &nonceMAC{hash: hmac.New(sha256.New, n.key[:])} }
	return n
}

// appendNonce appends a nonce for tuple to b: 16 characters.
func (n *nonces) appendNonce(b []byte, tuple event.FiveTuple, now time.Time) []byte {
	var raw [nonceLen]byte
	binary.BigEndian.PutUint32(raw[:4], uint32(n.steady(now).Unix()))
	mac := n.mac(raw[:4], tuple)
	copy(raw[4:], mac[:nonceMACLen])
	return nonceEncoding.AppendEncode(b, raw[:])
}

// valid reports whether nonce was issued by this server for tuple and has not expired. A nonce from the future, which can occur
// after the clock is set back, is invalid: the client gets a new one and continues.
func (n *nonces) valid(nonce []byte, tuple event.FiveTuple, now time.Time) bool {
	if len(nonce) != nonceEncoding.EncodedLen(nonceLen) {
		return false
	}
	var raw [nonceLen]byte
	if _, err := nonceEncoding.Decode(raw[:], nonce); err != nil {
		return false
	}
	mac := n.mac(raw[:4], tuple)
	if !hmac.Equal(raw[4:], mac[:nonceMACLen]) {
		return false
	}
	age := n.steady(now).Sub(time.Unix(int64(binary.BigEndian.Uint32(raw[:4])), 0))
	return age >= 0 && age < n.lifetime
}

// steady returns now by a clock that nobody sets, so that a nonce remains valid when the system's clock is set.
func (n *nonces) steady(now time.Time) time.Time { return n.base.Add(now.Sub(n.start)) }

func (n *nonces) mac(stamp []byte, tuple event.FiveTuple) (sum [sha256.Size]byte) {
	m := n.macs.Get().(*nonceMAC)
	defer n.macs.Put(m)
	addr := tuple.Client.Addr().As16()
	b := append(m.b[:0], stamp...)
	b = append(b, addr[:]...)
	b = binary.BigEndian.AppendUint16(b, tuple.Client.Port())
	b = append(b, byte(tuple.Transport))
	m.hash.Reset()
	m.hash.Write(b)
	copy(sum[:], m.hash.Sum(m.b[:0]))
	return sum
}

// nonceMAC computes MACs. Making one for each nonce would hash the key again and allocate memory.
type nonceMAC struct {
	hash hash.Hash
	b    [sha256.Size]byte // what is hashed, then the result
}
