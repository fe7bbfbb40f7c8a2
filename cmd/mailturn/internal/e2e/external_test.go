package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

const coturnSecret = "a secret of coturn's, of 32 bytes"

// TestExternalRelays has a server without a TURN endpoint issue credentials for two external relays, coturn and another mailturn,
// over IMAP and over HTTP. It checks that an account gets the same relay over both, where its credential works.
func TestExternalRelays(t *testing.T) {
	t.Parallel()
	coturn, other, p := freePorts(t).turn, freePorts(t), freePorts(t)
	startCoturn(t, exec.Command, "-n", "--listening-ip=127.0.0.1", "--listening-port="+strconv.Itoa(coturn),
		"--relay-ip=127.0.0.1", "--use-auth-secret", "--static-auth-secret="+coturnSecret, "--realm=example.org", "--allow-loopback-peers",
		"--no-tls", "--no-dtls", "--no-cli")
	start(t, t.TempDir(), "--config", configure(t, other, allowLoopback, ""))

	relays := fmt.Sprintf(`
  relay {
    turn_server = "127.0.0.1"
    turn_port   = %d
    turns_port  = 0
    turn_secret = %q
  }
  relay {
    turn_server = "127.0.0.1"
    turn_port   = %d
    turns_port  = %d
    turn_secret = %q
    weight      = 2
  }
`, coturn, coturnSecret, other.turn, other.turns, secret)
	const users = 100
	var usersFile bytes.Buffer
	for i := range users {
		fmt.Fprintf(&usersFile, "user%d:wonderland\n", i)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "maddy.conf")
	text := fmt.Sprintf(`
hostname = "localhost"
endpoint "imap" "imap" {
  listen = ["tls://127.0.0.1:%d", "tcp://127.0.0.1:%d"]
  embedded {
    users_file = "users"
  }
  %s
}
endpoint "http" "http" {
  listen   = "http://127.0.0.1:%d"
  api_keys = %q
  %s
}
`, p.imaps, p.imap, relays, p.turn, apiKey, relays)
	for name, content := range map[string]string{path: text, filepath.Join(dir, "users"): usersFile.String()} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stateDir := t.TempDir()
	start(t, stateDir, "--config", path)

	// The ports take part in the choice, so that an account's relay is another one each time.
	url := "http://127.0.0.1:" + strconv.Itoa(p.turn)
	client := plainClient(t)
	of := make(map[string]string) // a user of each relay, by port
	for i := 0; i < users && len(of) < 2; i++ {
		user := fmt.Sprintf("user%d", i)
		of[restCredential(t, client, url, user).port] = user
	}
	for name, port := range map[string]int{"coturn": coturn, "mailturn": other.turn} {
		t.Run(name, func(t *testing.T) {
			user, ok := of[strconv.Itoa(port)]
			if !ok {
				t.Fatalf("none of %d accounts has it", users)
			}
			transcript := imapSession(t, p.imaps, filepath.Join(stateDir, "selfsigned.crt"), nil,
				"a LOGIN "+user+" wonderland", `b GETMETADATA "" /shared/vendor/deltachat/turn`, "c LOGOUT")
			overIMAP := parseValue(t, metadata(t, transcript, "/shared/vendor/deltachat/turn"))
			if overIMAP.port != strconv.Itoa(port) {
				t.Errorf("%s has the relay on port %d over HTTP, and the one on %s over IMAP", user, port, overIMAP.port)
			}
			for door, c := range map[string]credential{"HTTP": restCredential(t, client, url, user), "IMAP": overIMAP} {
				t.Run(door, func(t *testing.T) {
					t.Parallel()
					echo, _ := echoPeer(t)
					uclient(t, c, port, "-e", "127.0.0.1", "-r", strconv.Itoa(echo), "-X", "-n", "5", "-m", "2", "-l", "100").wantAll(t, 10)
				})
			}
		})
	}
}
