package embedded

import (
	"hash/maphash"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/mailturn/mailturn/framework/password"
)

const (
	// loginFailureDelay is how long after its start a failed login is answered. It slows guessing down, and hides how long the
	// verification took.
	loginFailureDelay = 2 * time.Second
	// verifyWait is how long a login waits while all slots for verification are taken.
	verifyWait = 10 * time.Second
)

type loginResult int

const (
	loginOK loginResult = iota
	loginRefused
	loginBusy // undecided: too many verifications at once
)

// A passwordChecker verifies logins. It is safe for concurrent use.
type passwordChecker struct {
	users map[string]password.Password // read-only
	// decoys are the same passwords in a fixed order: an unknown user is checked against one of them, which takes as long as a wrong
	// password of a known user.
	decoys []password.Password
	seed   maphash.Seed
	// slots limits how many hashes are computed at once, because each is expensive in time and memory by design.
	slots chan struct{}
}

func newPasswordChecker(users map[string]password.Password) *passwordChecker {
	c := &passwordChecker{users: users, seed: maphash.MakeSeed(), slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))}
	for _, name := range slices.Sorted(maps.Keys(users)) {
		c.decoys = append(c.decoys, users[name])
	}
	return c
}

// check verifies a login. It returns from a failed one loginFailureDelay after it was called, or when stop is closed.
func (c *passwordChecker) check(username, candidate string, stop <-chan struct{}) loginResult {
	delay := time.NewTimer(loginFailureDelay)
	defer delay.Stop()
	result := c.verify(username, candidate, stop)
	if result != loginOK {
		select {
		case <-delay.C:
		case <-stop:
		}
	}
	return result
}

func (c *passwordChecker) verify(username, candidate string, stop <-chan struct{}) loginResult {
	p, known := c.users[username]
	if !known {
		if len(c.decoys) == 0 {
			return loginRefused
		}
		p = c.decoys[maphash.String(c.seed, username)%uint64(len(c.decoys))]
	}
	if p.Hashed {
		wait := time.NewTimer(verifyWait)
		defer wait.Stop()
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-wait.C:
			return loginBusy
		case <-stop:
			return loginBusy
		}
	}
	if p.Verify(candidate) && known {
		return loginOK
	}
	return loginRefused
}
