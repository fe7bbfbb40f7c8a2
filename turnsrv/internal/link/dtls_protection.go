package link

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/pion/dtls/v3"
	"golang.org/x/crypto/chacha20poly1305"
)

// Lengths in bytes.
const (
	dtlsTagLen = 16
	// dtlsExplicitNonceLen is the part of the nonce that a record of AES-GCM carries, RFC 5288 section 3.
	dtlsExplicitNonceLen = 8
)

// dtlsVersion is DTLS 1.2 as a record has it, RFC 6347 section 4.1.
const dtlsVersion = 0xFEFD

// dtlsSuite is how a cipher suite protects records.
type dtlsSuite struct {
	id            dtls.CipherSuiteID
	hash          func() hash.Hash // of the pseudorandom function
	keyLen, ivLen int
	new           func(key []byte) (cipher.AEAD, error)
}

// explicit reports whether a record carries a part of its nonce.
func (s *dtlsSuite) explicit() bool { return s.ivLen < 12 }

// dtlsSuites returns the cipher suites that are offered. All have ephemeral keys and authenticated encryption, RFC 9325 section 4.2.
func dtlsSuites() []dtlsSuite {
	gcm128 := dtlsSuite{hash: sha256.New, keyLen: 16, ivLen: 4, new: newGCM}
	gcm256 := dtlsSuite{hash: sha512.New384, keyLen: 32, ivLen: 4, new: newGCM}
	chacha := dtlsSuite{hash: sha256.New, keyLen: chacha20poly1305.KeySize, ivLen: chacha20poly1305.NonceSize, new: chacha20poly1305.New}
	suites := []dtlsSuite{gcm128, gcm128, gcm256, gcm256, chacha, chacha}
	for i, id := range []dtls.CipherSuiteID{
		dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		dtls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, dtls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	} {
		suites[i].id = id
	}
	return suites
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// dtlsSuiteOf returns the suite with an ID, or nil.
func dtlsSuiteOf(id dtls.CipherSuiteID) *dtlsSuite {
	suites := dtlsSuites()
	for i := range suites {
		if suites[i].id == id {
			return &suites[i]
		}
	}
	return nil
}

var (
	errDTLSKeys   = errors.New("keys of DTLS do not fit their cipher suite")
	errDTLSRecord = errors.New("DTLS record is too short")
)

// dtlsProtection protects the records of one direction, RFC 6347 section 4.1.2. It must not be used concurrently.
type dtlsProtection struct {
	key, iv  []byte
	explicit bool
	aead     cipher.AEAD

	nonce      [12]byte
	additional [13]byte
}

// protection returns the protection with a key and an initialization vector.
func (s *dtlsSuite) protection(key, iv []byte) (*dtlsProtection, error) {
	if len(key) != s.keyLen || len(iv) != s.ivLen {
		return nil, errDTLSKeys
	}
	aead, err := s.new(key)
	if err != nil {
		return nil, err
	}
	return &dtlsProtection{key: key, iv: iv, explicit: s.explicit(), aead: aead}, nil
}

// seal appends the record of a message to dst. number consists of the epoch and the sequence number, and must not be used twice.
func (p *dtlsProtection) seal(dst []byte, contentType byte, number uint64, message []byte) []byte {
	start := len(dst)
	dst = append(dst, contentType, dtlsVersion>>8, dtlsVersion&0xFF)
	dst = binary.BigEndian.AppendUint64(dst, number)
	dst = append(dst, 0, 0)
	header := dst[start : start+dtlsRecordHeaderLen]
	if p.explicit {
		dst = binary.BigEndian.AppendUint64(dst, number)
	}
	p.prepare(header, header[3:11], len(message))
	dst = p.aead.Seal(dst, p.nonce[:], message, p.additional[:])
	binary.BigEndian.PutUint16(dst[start+11:], uint16(len(dst)-start-dtlsRecordHeaderLen))
	return dst
}

// open returns the message of a record, which it overwrites.
func (p *dtlsProtection) open(record []byte) ([]byte, error) {
	header, sealed := record[:dtlsRecordHeaderLen], record[dtlsRecordHeaderLen:]
	explicit := header[3:11]
	if p.explicit {
		if len(sealed) < dtlsExplicitNonceLen {
			return nil, errDTLSRecord
		}
		explicit, sealed = sealed[:dtlsExplicitNonceLen], sealed[dtlsExplicitNonceLen:]
	}
	if len(sealed) < dtlsTagLen {
		return nil, errDTLSRecord
	}
	p.prepare(header, explicit, len(sealed)-dtlsTagLen)
	return p.aead.Open(sealed[:0], p.nonce[:], sealed, p.additional[:])
}

// prepare sets the nonce, RFC 5288 section 3 and RFC 7905 section 2, and the additional data, RFC 5246 section 6.2.3.3.
func (p *dtlsProtection) prepare(header, explicit []byte, length int) {
	copy(p.nonce[:], p.iv)
	if p.explicit {
		copy(p.nonce[4:], explicit)
	} else {
		for i, b := range header[3:11] {
			p.nonce[4+i] ^= b
		}
	}
	copy(p.additional[:], header[3:11])
	copy(p.additional[8:], header[:3])
	binary.BigEndian.PutUint16(p.additional[11:], uint16(length))
}
