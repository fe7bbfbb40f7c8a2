package hmacsha1

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"testing"
)

// TestVectors contains test cases of RFC 2202 section 3.
func TestVectors(t *testing.T) {
	for _, tt := range []struct{ key, data, want string }{
		{strings.Repeat("\x0b", 20), "Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"},
		{"Jefe", "what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{strings.Repeat("\xaa", 20), strings.Repeat("\xdd", 50), "125d7342b9ac11cd91a39af48aa17b4f63f175d3"},
		{strings.Repeat("\xaa", 80), "Test Using Larger Than Block-Size Key - Hash Key First", "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
	} {
		if got := Sum([]byte(tt.key), []byte(tt.data)); hex.EncodeToString(got[:]) != tt.want {
			t.Errorf("%.20q: got %x, want %s", tt.data, got, tt.want)
		}
	}
}

// FuzzSum compares with crypto/hmac.
func FuzzSum(f *testing.F) {
	for _, n := range []int{0, 16, 63, 64, 65, 200} {
		f.Add(bytes.Repeat([]byte{1}, n), []byte("first"), []byte("second"))
	}
	f.Fuzz(func(t *testing.T, key, first, second []byte) {
		want := hmac.New(sha1.New, key)
		want.Write(first)
		want.Write(second)
		if got := Sum(key, first, second); !bytes.Equal(got[:], want.Sum(nil)) {
			t.Errorf("got %x, want %x", got, want.Sum(nil))
		}
	})
}

func TestSumMakesNoGarbage(t *testing.T) {
	key, data := make([]byte, 16), make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { Sum(key, data) }); n >= 1 { // the pool may be emptied meanwhile
		t.Errorf("%v allocations", n)
	}
}
