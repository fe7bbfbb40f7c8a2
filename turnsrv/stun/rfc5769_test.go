package stun

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

// The messages of RFC 5769 sections 2.1 to 2.4.
const (
	rfc5769Request = `000100582112a442b7e7a701bc34d686fa87dfae
		802200105354554e207465737420636c69656e74
		002400046e0001ff 80290008932ff9b151263b36 000600096576746a3a68367659202020
		000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004e57a3bcf`
	rfc5769ResponseIPv4 = `0101003c2112a442b7e7a701bc34d686fa87dfae
		8022000b7465737420766563746f7220 002000080001a147e112a643
		000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004c07d4c96`
	rfc5769ResponseIPv6 = `010100482112a442b7e7a701bc34d686fa87dfae
		8022000b7465737420766563746f7220 002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9
		00080014a382954e4be67bf11784c97c8292c275bfe3ed41 80280004c8fb0b4c`
	rfc5769LongTerm = `000100602112a44278ad3433c6ad72c029da412e
		00060012e3839ee38388e383aae38383e382afe382b90000
		0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700
		00080014f67024656dd64a3e02b8e0712e85c9a28ca89666`
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRFC5769(t *testing.T) {
	longTerm := credential.LongTermKey("\u30de\u30c8\u30ea\u30c3\u30af\u30b9", "example.org", "TheMatrIX")
	shortTerm := []byte("VOkJxbRl1RmTxUk/WvJxBt")
	tests := []struct {
		name        string
		message     string
		class       Class
		key         []byte
		mapped      string
		fingerprint bool
	}{
		{name: "request", message: rfc5769Request, key: shortTerm, fingerprint: true},
		{name: "response IPv4", message: rfc5769ResponseIPv4, class: ClassSuccess, key: shortTerm, mapped: "192.0.2.1:32853",
			fingerprint: true},
		{name: "response IPv6", message: rfc5769ResponseIPv6, class: ClassSuccess, key: shortTerm,
			mapped: "[2001:db8:1234:5678:11:2233:4455:6677]:32853", fingerprint: true},
		{name: "long-term credentials", message: rfc5769LongTerm, key: longTerm},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			raw := unhex(t, test.message)
			m, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if m.Method != MethodBinding || m.Class != test.class || m.HasFingerprint != test.fingerprint {
				t.Errorf("got %v class %d, fingerprint %v", m.Method, m.Class, m.HasFingerprint)
			}
			if !m.VerifyIntegrity(test.key) {
				t.Error("MESSAGE-INTEGRITY does not verify")
			}
			if m.VerifyIntegrity([]byte("another key")) {
				t.Error("MESSAGE-INTEGRITY verifies under another key")
			}
			for typ, value := range m.Attributes() {
				if typ != AttrXORMappedAddress {
					continue
				}
				addr, err := ParseXORAddress(value, m.TransactionID)
				if err != nil || addr != netip.MustParseAddrPort(test.mapped) {
					t.Errorf("XOR-MAPPED-ADDRESS = %v, %v, want %s", addr, err, test.mapped)
				}
			}
			// One flipped bit anywhere before the integrity attribute must be noticed.
			for i := 8; i < m.integrity; i++ {
				flipped := append([]byte(nil), raw...)
				flipped[i] ^= 1
				if m, err := Parse(flipped); err == nil && m.VerifyIntegrity(test.key) {
					t.Errorf("a flipped bit in byte %d was not noticed", i)
				}
			}
		})
	}
}
