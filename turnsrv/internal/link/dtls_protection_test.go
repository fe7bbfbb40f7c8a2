package link

import (
	"bytes"
	"testing"
)

// bothWays returns the protection of a suite, as the sender and as the receiver have it.
func bothWays(t testing.TB, suite *dtlsSuite) (sender, receiver *dtlsProtection) {
	t.Helper()
	key, iv := bytes.Repeat([]byte{1}, suite.keyLen), bytes.Repeat([]byte{2}, suite.ivLen)
	sender, err := suite.protection(key, iv)
	if err != nil {
		t.Fatal(err)
	}
	if receiver, err = suite.protection(key, iv); err != nil {
		t.Fatal(err)
	}
	return sender, receiver
}

// TestDTLSProtection changes each bit of a record in turn: none is accepted.
func TestDTLSProtection(t *testing.T) {
	for _, suite := range dtlsSuites() {
		sender, receiver := bothWays(t, &suite)
		record := sender.seal(nil, dtlsApplicationData, dtlsEpoch<<48|7, []byte("message"))
		for i := range 8 * len(record) {
			forged := bytes.Clone(record)
			forged[i/8] ^= 1 << (i % 8)
			if i/8 == 11 || i/8 == 12 {
				continue // the length, by which the record was cut out of its datagram
			}
			if message, err := receiver.open(forged); err == nil {
				t.Errorf("%v: with another bit %d, %q is accepted", suite.id, i, message)
			}
		}
		if message, err := receiver.open(record); err != nil || string(message) != "message" {
			t.Errorf("%v: got %q, %v", suite.id, message, err)
		}
	}
}

// FuzzDTLSProtection opens records of anybody, and those that were sealed.
func FuzzDTLSProtection(f *testing.F) {
	f.Add(byte(0), []byte{23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0})
	f.Add(byte(4), bytes.Repeat([]byte{23}, dtlsRecordHeaderLen+dtlsTagLen))
	f.Add(byte(2), bytes.Repeat([]byte{0}, dtlsRecordHeaderLen+dtlsExplicitNonceLen+dtlsTagLen))
	f.Fuzz(func(t *testing.T, n byte, b []byte) {
		suites := dtlsSuites()
		sender, receiver := bothWays(t, &suites[int(n)%len(suites)])
		if r, _, whole := CutRecord(b); whole {
			if message, err := receiver.open(bytes.Clone(b[:dtlsRecordHeaderLen+len(r.fragment)])); err == nil {
				t.Errorf("%x was accepted as %x", b, message)
			}
		}
		if len(b) > 1<<14 {
			return
		}
		record := sender.seal([]byte("before"), dtlsAlert, dtlsEpoch<<48|uint64(n), b)[len("before"):]
		r, rest, whole := CutRecord(record)
		if !whole || len(rest) > 0 || r.Epoch != dtlsEpoch || r.contentType != dtlsAlert {
			t.Fatalf("the record is %x", record)
		}
		if message, err := receiver.open(record); err != nil || !bytes.Equal(message, b) {
			t.Errorf("got %x, %v, want %x", message, err, b)
		}
	})
}
