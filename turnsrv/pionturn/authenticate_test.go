package pionturn

import (
	"bytes"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// signed returns a request signed with a credential.
func signed(method stun.Method, c credential.Credential) []byte {
	var b stun.Builder
	b.Start(method, stun.ClassRequest, stun.TransactionID{1})
	b.Text(stun.AttrUsername, c.Username)
	b.MessageIntegrity(credential.LongTermKey(c.Username, testRealm, c.Password))
	return bytes.Clone(b.Bytes())
}

// TestKeyOfTheMessage rotates a secret. pion asks for one key and must get the one with which the current message is signed.
func TestKeyOfTheMessage(t *testing.T) {
	s, err := New(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []credential.Secret{newSecret, oldSecret} {
		c := issue(secret, time.Hour)
		client := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
		other := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} // the same client at another socket
		s.take(client, signed(stun.MethodAllocate, c))
		s.take(other, signed(stun.MethodAllocate, issue(newSecret, time.Hour)))
		key, ok := s.authenticate(c.Username, testRealm, client)
		if want := credential.LongTermKey(c.Username, testRealm, c.Password); !ok || !bytes.Equal(key, want) {
			t.Errorf("got the key %x, %v, want %x", key, ok, want)
		}
		s.forget(client)
		s.forget(other)
	}
	s.inHand.Range(func(client, _ any) bool {
		t.Errorf("the message of %v is remembered", client)
		return true
	})
}

// TestExpiredGrace checks that a credential that expires during a call keeps the call for ExpiredGrace, and allows nothing else.
func TestExpiredGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		config.ExpiredGrace = time.Hour
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		c := issue(newSecret, time.Minute)
		caller := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
		stranger := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 2}
		here := &net.UDPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 3478}
		s.quota.made(tupleOf(caller, here))
		may := func(client *net.UDPAddr, method stun.Method) bool {
			s.take(client, signed(method, c))
			defer s.forget(client)
			_, ok := s.authenticate(c.Username, testRealm, client)
			return ok
		}
		if !may(stranger, stun.MethodAllocate) {
			t.Error("refused before its expiry")
		}
		time.Sleep(time.Minute)
		if may(stranger, stun.MethodAllocate) || may(stranger, stun.MethodRefresh) || may(caller, stun.MethodAllocate) {
			t.Error("an expired credential starts something new")
		}
		if !may(caller, stun.MethodRefresh) || !may(caller, stun.MethodCreatePermission) {
			t.Error("a call was cut by the expiry of its credential")
		}
		time.Sleep(time.Hour)
		if may(caller, stun.MethodRefresh) {
			t.Error("the call goes on beyond the grace")
		}
	})
}
