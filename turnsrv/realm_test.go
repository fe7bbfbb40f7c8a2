package turnsrv

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// realmsConfig is testConfig with a second realm and users of both.
func realmsConfig(t *testing.T) Config {
	t.Helper()
	config := testConfig(t)
	config.Realms = map[string]string{"turn.example.net": "example.net", "example.net": "example.net"}
	var users credential.Users
	for _, user := range [][3]string{
		{"alice", turntest.TestRealm, "secret of alice"},
		{"bob", "example.net", "secret of bob"},
		{"carol", "example.net", "ha1:00112233445566778899aabbccddeeff"},
		{"dave", turntest.TestRealm, "secret of the one"},
		{"dave", "example.net", "secret of the other"},
	} {
		if err := users.Add(user[0], user[1], user[2]); err != nil {
			t.Fatal(err)
		}
	}
	config.Authenticator = credential.Verifier{Users: users,
		Secrets: []credential.Secret{credential.NewSecret([]byte(turntest.TestSecret))}}
	return config
}

// TestRealmOfTheChallenge checks that a client gets the realm of the name by which it reaches the server.
func TestRealmOfTheChallenge(t *testing.T) {
	server := startServer(t, realmsConfig(t))
	overTLS := func(name string) func() *rawClient {
		return func() *rawClient {
			conn, err := tls.Dial("tcp", server.tls.String(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			return newRawClient(t, conn, true)
		}
	}
	overUDP := func() *rawClient { return dial(t, "udp", server.udp) }
	origin := func(s string) []turntest.Set { return []turntest.Set{turntest.Attr(stun.AttrOrigin, []byte(s)...)} }
	for _, test := range []struct {
		name string
		dial func() *rawClient
		sets []turntest.Set
		want string
	}{
		{"UDP", overUDP, nil, turntest.TestRealm},
		{"ORIGIN of a web page", overUDP, origin("https://turn.example.net:8443"), "example.net"},
		{"ORIGIN with a path", overUDP, origin("https://EXAMPLE.net/call"), "example.net"},
		{"ORIGIN that is a name", overUDP, origin("example.net"), "example.net"},
		{"ORIGIN of somebody else", overUDP, origin("https://example.com"), turntest.TestRealm},
		{"empty ORIGIN", overUDP, origin(""), turntest.TestRealm},
		{"ORIGIN of 1480 bytes", overUDP, origin("example.net/" + strings.Repeat("x", 1468)), turntest.TestRealm},
		{"the one that is known", overUDP, slices.Concat(origin("https://example.com"), origin("example.net"), origin("x")),
			"example.net"},
		{"the ninth", overUDP, append(slices.Repeat(origin("x"), 8), origin("example.net")...), turntest.TestRealm},
		{"TLS without a name", overTLS(""), nil, turntest.TestRealm},
		{"TLS with the other name", overTLS("Turn.Example.NET"), nil, "example.net"},
		{"TLS with another name", overTLS("example.com"), nil, turntest.TestRealm},
		{"ORIGIN beside a name in TLS", overTLS("example.com"), origin("example.net"), "example.net"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := test.dial().unsigned(stun.MethodAllocate, append(test.sets, turntest.TransportUDP)...)
			if got := string(a.attrs[stun.AttrRealm]); a.code != 401 || got != test.want {
				t.Errorf("answered %d with the realm %q, want 401 with %q", a.code, got, test.want)
			}
		})
	}
}

// TestUsersOfBothRealms checks that each user is accepted in every realm for which there is a key, and in no other.
func TestUsersOfBothRealms(t *testing.T) {
	server := startServer(t, realmsConfig(t))
	issued := turntest.TestCredential()
	key := []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")
	for _, test := range []struct {
		username, realm string
		key             []byte
		want            stun.ErrorCode
	}{
		{"alice", turntest.TestRealm, credential.LongTermKey("alice", turntest.TestRealm, "secret of alice"), 0},
		{"alice", "example.net", credential.LongTermKey("alice", "example.net", "secret of alice"), 0},
		{"alice", "example.net", credential.LongTermKey("alice", turntest.TestRealm, "secret of alice"), 401},
		{"alice", "example.com", credential.LongTermKey("alice", "example.com", "secret of alice"), 401},
		{"bob", turntest.TestRealm, credential.LongTermKey("bob", turntest.TestRealm, "secret of bob"), 0},
		{"bob", "example.net", credential.LongTermKey("bob", "example.net", "secret of bob"), 0},
		{"carol", "example.net", key, 0},
		{"carol", turntest.TestRealm, key, 401},
		{issued.Username, "example.net", credential.LongTermKey(issued.Username, "example.net", issued.Password), 0},
	} {
		c := dial(t, "udp", server.udp)
		c.challenge()
		c.credential.Username, c.realm, c.key = test.username, test.realm, test.key
		a := c.request(stun.MethodAllocate, turntest.TransportUDP)
		if a.code != test.want {
			t.Errorf("%s in %s is answered %d, want %d", test.username, test.realm, a.code, test.want)
		}
		if a.code == 0 && !a.VerifyIntegrity(test.key) {
			t.Errorf("%s in %s is answered with another key", test.username, test.realm)
		}
	}
}

// TestUsersOfOneName checks that two users with the same name in different realms have separate quotas and cannot use each
// other's allocations. Over UDP both sign with the default realm.
func TestUsersOfOneName(t *testing.T) {
	config := realmsConfig(t)
	config.MaxAllocationsPerUser = 1
	server := startServer(t, config)
	dave := func(password string) *rawClient {
		c := dial(t, "udp", server.udp)
		c.use(credential.Credential{Username: "dave", Password: password})
		return c
	}
	one, other := dave("secret of the one"), dave("secret of the other")
	one.allocate()
	other.allocate()
	for _, password := range []string{"secret of the one", "secret of the other"} {
		c := dave(password)
		c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 486)
	}
	one.use(other.credential)
	one.want(one.request(stun.MethodCreatePermission, turntest.PeerAddr(turntest.PublicPeer)), 441)
	one.want(one.request(stun.MethodRefresh, turntest.Lifetime(0)), 441)
	one.use(credential.Credential{Username: "dave", Password: "secret of the one"})
	one.want(one.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)
	c := dave("secret of the one")
	c.allocate()
}

// TestRealmsAreBounded checks that realms must fit in their attribute.
func TestRealmsAreBounded(t *testing.T) {
	config := realmsConfig(t)
	for _, realm := range []string{"", strings.Repeat("r", 128)} {
		config.Realms = map[string]string{"a": realm}
		if _, err := New(config); err == nil {
			t.Errorf("a realm of %d bytes is accepted", len(realm))
		}
	}
}
