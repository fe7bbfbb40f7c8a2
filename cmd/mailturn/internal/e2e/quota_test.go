package e2e

import (
	"fmt"
	"net"
	"testing"

	"github.com/pion/stun/v3"
)

// allocate requests an allocation from a new address and returns the error code, or 0.
func allocate(t *testing.T, p ports, c credential) stun.ErrorCode {
	t.Helper()
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", p.turn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	request := stun.NewType(stun.MethodAllocate, stun.ClassRequest)
	var realm stun.Realm
	var nonce stun.Nonce
	if err := roundTrip(t, conn, request, requestUDP{}).Parse(&realm, &nonce); err != nil {
		t.Fatal(err)
	}
	answer := roundTrip(t, conn, request, requestUDP{}, stun.NewUsername(c.username), realm, nonce,
		stun.NewLongTermIntegrity(c.username, realm.String(), c.password))
	if answer.Type.Class == stun.ClassSuccessResponse {
		return 0
	}
	return errorCode(t, answer)
}

// TestQuotaOfAnAccount allows each account one allocation, and checks that the quota counts all of its user names, which are
// numbers, that the log names the account, and that a reload keeps the accounts.
func TestQuotaOfAnAccount(t *testing.T) {
	stateDir, p := t.TempDir(), freePorts(t)
	path := configure(t, p, "user_quota = 1", "")
	s := start(t, stateDir, "--config", path)
	alice, turns := discover(t, p, stateDir, "alice@example.org", "wonderland")
	bob, _ := discover(t, p, stateDir, "bob@example.org", "builder")
	if alice.username != turns.username || alice.username == bob.username {
		t.Errorf("user names %s and %s of alice, %s of bob", alice.username, turns.username, bob.username)
	}
	rewrite(t, s, path, `"builder"`, `"rebuilder"`, "msg=reloaded")
	again, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	for _, tt := range []struct {
		name       string
		credential credential
		want       stun.ErrorCode
	}{
		{"alice", alice, 0}, {"alice", alice, 486}, {"alice", again, 486}, {"bob", bob, 0}, {"bob", bob, 486},
	} {
		if got := allocate(t, p, tt.credential); got != tt.want {
			t.Errorf("%s's Allocate is answered %d, want %d", tt.name, got, tt.want)
		}
	}
	for _, name := range []string{"alice", "bob"} {
		s.waitFor(t, s.stderr, "allocation.account="+name+"@example.org allocation.relay=127.0.0.1:")
		s.waitFor(t, s.stderr, "allocation.account="+name+"@example.org allocation.code=486 allocation.reason=user_quota")
	}
}
