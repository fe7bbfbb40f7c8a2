package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
	"github.com/mailturn/mailturn/framework/config"
)

// inUse returns a condition: that the member says that so many secrets were made, and that the latest is in use.
func (r *relaying) inUse(n int) func() error {
	return func() error {
		_, printed := r.ctl("secret", "status")
		lines := strings.Split(printed, "\n")
		if strings.Count(printed, "in use")+strings.Count(printed, "replaced") != n || !strings.HasSuffix(lines[1], "in use") {
			return fmt.Errorf("%s", printed)
		}
		return nil
	}
}

// TestNoDirectoryForSecrets wants a warning if the secrets that are made are not stored.
func TestNoDirectoryForSecrets(t *testing.T) {
	for stateDir, want := range map[string]int{"": 1, "/var/lib/mailturn": 0} {
		file, diags := config.Parse("maddy.conf", []byte("cluster {\n redis = [\"rediss://localhost\"]\n key = \"0123456789abcdef0123456789abcdef\"\n secret_rotation = \"720h\"\n}"))
		s := setup{stateDir: stateDir}
		if diags = append(diags, s.decodeCluster(file.Cluster)...); diags.HasErrors() || len(diags) != want {
			t.Errorf("state_dir = %q: %v", stateDir, diags)
		}
	}
}

// TestRotateSecret replaces the secret three times while credentials are issued and used: with all machines, while Redis does not run, and
// while one machine is down. No credential is refused, whichever machine issued it and whichever relay gets it, and a machine that was
// down knows the secrets before it serves.
func TestRotateSecret(t *testing.T) {
	redisServer := redistest.Start(t)
	members := []*relaying{runMember(t, redisServer, "one"), runMember(t, redisServer, "two"), runMember(t, redisServer, "three")}
	one, two, three := members[0], members[1], members[2]
	for _, r := range members {
		soon(t, "all relays are known", func() error {
			if _, printed := r.ctl("cluster"); strings.Count(printed, "serving") != len(members) {
				return fmt.Errorf("%s", printed)
			}
			return nil
		})
	}
	oldUser, oldPassword := one.credential(t, "old@example.org")

	var down sync.RWMutex // three is down while it is locked
	stop := make(chan struct{})
	var using sync.WaitGroup
	issued := make([]int, len(members))
	for i, issuer := range members {
		using.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(30 * time.Millisecond):
				}
				relay := members[n%len(members)]
				if down.RLock(); three.stop != nil || issuer != three && relay != three {
					username, password := issuer.credential(t, fmt.Sprintf("user%d-%d@example.org", i, n))
					if err := relay.answers(t, username, password, 0)(); err != nil {
						t.Errorf("a credential of member %d at the relay of member %d: %v", i, n%len(members), err)
					}
					issued[i]++
				}
				down.RUnlock()
			}
		})
	}
	one.want(t, 0, "Made secret", "secret", "rotate")
	for _, r := range members {
		soon(t, "the first secret", r.inUse(1))
	}

	redisServer.Kill()
	two.want(t, 0, "Redis cannot be used: other machines will learn of this when it can.", "secret", "rotate")
	two.want(t, 1, "not all relays accept the latest one", "secret", "rotate")
	redisServer.Run(t) // empty
	for _, r := range members {
		soon(t, "the second secret, after Redis has lost the first one", r.inUse(2))
	}

	down.Lock()
	three.stop()
	three.stop = nil
	down.Unlock()
	one.want(t, 0, "Made secret", "secret", "rotate")
	soon(t, "the third secret, while a machine is down", two.inUse(3))
	newUser, newPassword := two.credential(t, "new@example.org")
	down.Lock()
	three.stop = three.start(t, three.configuration)
	if err := three.answers(t, newUser, newPassword, 0)(); err != nil {
		t.Errorf("right after its start: %v", err)
	}
	down.Unlock()
	soon(t, "the machine that was down", three.inUse(3))

	close(stop)
	using.Wait()
	for _, r := range members {
		if err := r.answers(t, oldUser, oldPassword, 0)(); err != nil {
			t.Errorf("a credential from before: %v", err)
		}
	}
	for i, n := range issued {
		if n < 20 {
			t.Errorf("member %d has issued only %d credentials", i, n)
		}
	}

	redisServer.Kill()
	three.stop()
	three.stop = three.start(t, three.configuration)
	if err := three.answers(t, newUser, newPassword, 0)(); err != nil {
		t.Errorf("after a restart without Redis: %v", err)
	}
}
