package embedded

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/framework/password"
)

// TestVerifySlots checks that verifications wait if there is no slot, and are then deferred instead of refused.
func TestVerifySlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		running := 0
		c := newPasswordChecker(map[string]password.Password{"alice": {Hashed: true, Verify: func(string) bool {
			running++
			<-release
			running--
			return true
		}}})
		c.slots = make(chan struct{}, 1)
		results := make(chan loginResult, 2)
		begin := time.Now()
		for range 2 {
			go func() { results <- c.check("alice", "x", nil) }()
		}
		synctest.Wait()
		if running != 1 {
			t.Errorf("%d verifications at once, want 1", running)
		}
		if got := <-results; got != loginBusy || time.Since(begin) != verifyWait {
			t.Errorf("got %v after %v, want busy after %v", got, time.Since(begin), verifyWait)
		}
		close(release)
		if got := <-results; got != loginOK {
			t.Errorf("got %v, want OK", got)
		}
	})
}

// TestUnknownUser checks that for an unknown name, some user's password is verified, always the same for one name.
func TestUnknownUser(t *testing.T) {
	asked := make(map[string]int)
	users := make(map[string]password.Password)
	for _, name := range []string{"alice", "bob", "carol"} {
		users[name] = password.Password{Verify: func(string) bool { asked[name]++; return true }}
	}
	c := newPasswordChecker(users)
	for i := range 300 {
		if got := c.verify(fmt.Sprintf("nobody%d", i), "x", nil); got != loginRefused {
			t.Fatalf("an unknown user logged in: %v", got)
		}
	}
	for name := range users {
		if asked[name] < 30 {
			t.Errorf("the password of %s was verified for %d of 300 unknown users", name, asked[name])
		}
	}
	clear(asked)
	for range 10 {
		c.verify("nobody0", "x", nil)
	}
	if len(asked) != 1 {
		t.Errorf("one name was checked against several users: %v", asked)
	}
	if got := newPasswordChecker(nil).verify("nobody", "x", nil); got != loginRefused {
		t.Errorf("without users: %v", got)
	}
}
