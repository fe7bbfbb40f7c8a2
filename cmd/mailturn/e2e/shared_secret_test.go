package e2e

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strconv"
	"testing"
	"time"
)

// TestUsersOfTheSharedSecret allocates as the users of programs that share the secret and mint for themselves, each by the
// algorithm that it documents.
func TestUsersOfTheSharedSecret(t *testing.T) {
	t.Parallel()
	stateDir, p := t.TempDir(), freePorts(t)
	start(t, stateDir, "--config", configure(t, p, allowLoopback, ""))
	hmacSHA1 := func(username string) string {
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write([]byte(username))
		return base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	now := time.Now()

	for _, tt := range []struct {
		name string
		mint func() (username, password string)
	}{
		// Synapse, docs/turn-howto.md and rest/client/voip.py: turn_user_lifetime is in milliseconds.
		{"Synapse", func() (string, string) {
			const turnUserLifetime = 86_400_000
			expiry := (now.UnixMilli() + turnUserLifetime) / 1000
			username := fmt.Sprintf("%d:%s", expiry, "@alice:matrix.example.org")
			return username, hmacSHA1(username)
		}},
		{"Synapse, a guest", func() (string, string) {
			username := strconv.FormatInt(now.Add(time.Hour).Unix(), 10) + ":@17:matrix.example.org"
			return username, hmacSHA1(username)
		}},
		// LiveKit, rtc.turn_servers with a secret: ttl is in seconds, 14400 by default, and the user is the participant.
		{"LiveKit", func() (string, string) {
			const ttl = 14400
			username := fmt.Sprintf("%d:%s", now.Add(ttl*time.Second).Unix(), "PA_3aXhVqhzRq6q")
			return username, hmacSHA1(username)
		}},
		// coturn's own examples, and eturnal's: the time alone, or behind the user.
		{"expiry alone", func() (string, string) {
			username := strconv.FormatInt(now.Add(time.Hour).Unix(), 10)
			return username, hmacSHA1(username)
		}},
		{"expiry behind the user", func() (string, string) {
			username := "alice:" + strconv.FormatInt(now.Add(time.Hour).Unix(), 10)
			return username, hmacSHA1(username)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			username, password := tt.mint()
			c := credential{host: "127.0.0.1", username: username, password: password}
			port, _ := echoPeer(t)
			uclient(t, c, p.turn, "-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", "5", "-m", "2", "-l", "100").wantAll(t, 10)
		})
	}

	t.Run("Synapse, a day later", func(t *testing.T) {
		t.Parallel()
		username := strconv.FormatInt(now.Add(-time.Second).Unix(), 10) + ":@alice:matrix.example.org"
		c := credential{host: "127.0.0.1", username: username, password: hmacSHA1(username)}
		uclient(t, c, p.turn, "-y", "-n", "1", "-m", "2", "-c").wantNone(t, "Cannot complete Allocation")
	})
}
