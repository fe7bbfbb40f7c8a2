package e2e

import (
	"crypto/md5"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// requestUDP is REQUESTED-TRANSPORT with the protocol number of UDP, RFC 8656 section 18.7.
type requestUDP struct{}

func (requestUDP) AddTo(m *stun.Message) error {
	m.Add(stun.AttrRequestedTransport, []byte{17, 0, 0, 0})
	return nil
}

// roundTrip sends one request to the TURN server over UDP and returns its answer.
func roundTrip(t *testing.T, conn net.Conn, setters ...stun.Setter) *stun.Message {
	t.Helper()
	request := stun.MustBuild(append([]stun.Setter{stun.TransactionID}, setters...)...)
	if _, err := conn.Write(request.Raw); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(stepLimit))
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	response := &stun.Message{Raw: buf[:n]}
	if err := response.Decode(); err != nil {
		t.Fatal(err)
	}
	if response.TransactionID != request.TransactionID {
		t.Fatalf("the answer belongs to another transaction: %v", response)
	}
	return response
}

func errorCode(t *testing.T, m *stun.Message) stun.ErrorCode {
	t.Helper()
	var code stun.ErrorCodeAttribute
	if err := code.GetFrom(m); err != nil {
		t.Fatalf("no ERROR-CODE in %v: %v", m, err)
	}
	return code.Code
}

// TestRealm allocates with the right user, password and nonce, in a realm that is not the server's and then in the one
// that is. coturn's client adopts whatever realm the server sends, so this request is made by hand.
func TestRealm(t *testing.T) {
	p := freePorts(t)
	start(t, t.TempDir(), "--config", configure(t, p, "", ""))
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", p.turn))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	allocate := stun.NewType(stun.MethodAllocate, stun.ClassRequest)

	challenge := roundTrip(t, conn, allocate, requestUDP{})
	if got := errorCode(t, challenge); got != stun.CodeUnauthorized {
		t.Fatalf("got %d to an unauthenticated request, want 401", got)
	}
	var realm stun.Realm
	var nonce stun.Nonce
	if err := challenge.Parse(&realm, &nonce); err != nil {
		t.Fatal(err)
	}
	if realm.String() != "example.org" {
		t.Errorf("got the realm %q, want example.org", realm)
	}

	username := fmt.Sprint(time.Now().Add(time.Hour).Unix())
	password := mint(username)
	signed := func(realm string) *stun.Message {
		return roundTrip(t, conn, allocate, requestUDP{}, stun.NewUsername(username), stun.NewRealm(realm), nonce,
			stun.NewLongTermIntegrity(username, realm, password))
	}
	refused := signed("example.com")
	if got := errorCode(t, refused); got != stun.CodeUnauthorized {
		t.Errorf("got %d in another realm, want 401", got)
	}
	if !refused.Contains(stun.AttrRealm) || !refused.Contains(stun.AttrNonce) {
		t.Errorf("the 401 lacks REALM or NONCE (RFC 8489 section 9.2.4): %v", refused)
	}
	granted := signed("example.org")
	if granted.Type != stun.NewType(stun.MethodAllocate, stun.ClassSuccessResponse) {
		t.Fatalf("got %v in the server's realm, want success", granted)
	}
	if err := stun.NewLongTermIntegrity(username, "example.org", password).Check(granted); err != nil {
		t.Errorf("the success response is not signed with the user's key: %v", err)
	}
}

// TestUserRealm has coturn's client name the realm by its ORIGIN, and come without one: then it is told of the endpoint's
// realm, which works for every user whose password the server knows.
func TestUserRealm(t *testing.T) {
	t.Parallel()
	p := freePorts(t)
	ha1 := fmt.Sprintf("ha1:%x", md5.Sum([]byte("carol:example.net:the password of carol")))
	start(t, t.TempDir(), "--config", configure(t, p, fmt.Sprintf(`max_guesses = 0
  user_realm "example.net" {
    users = {
      bob   = "the password of bob"
      carol = %q
    }
  }`, ha1), ""))
	user := func(name string) credential {
		return credential{host: "127.0.0.1", username: name, password: "the password of " + name}
	}
	for _, tt := range []struct {
		name    string
		user    string
		options []string
		served  bool
	}{
		{"a password with ORIGIN", "bob", []string{"-o", "https://example.net"}, true},
		{"a password without", "bob", nil, true},
		{"a key with ORIGIN", "carol", []string{"-o", "https://example.net"}, true},
		{"a key without", "carol", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			result := uclient(t, user(tt.user), p.turn, append([]string{"-y", "-n", "3", "-m", "2", "-c"}, tt.options...)...)
			if !tt.served {
				result.wantNone(t, "Cannot complete Allocation")
				return
			}
			result.wantAllBack(t)
		})
	}
}
