package e2e

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

func hmacSHA1(secret, username string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// TestSharedSecret allocates as the users of programs that have the relay's secret and issue credentials themselves. They cannot be
// run here, so each form of user name is that of a program's source, and the secret, the addresses and the lifetime are those exported for it.
func TestSharedSecret(t *testing.T) {
	for _, tt := range []struct {
		name, version string
		told          func(t *testing.T, config string) knowledge
		forms         map[string]func(k knowledge, now time.Time) (username string) // by the file that has it
	}{
		// Nothing of Synapse is in Debian 12 or 13. A guest's name is a number.
		{"Synapse", "1.157.1", toldSynapse, map[string]func(k knowledge, now time.Time) string{
			"synapse/rest/client/voip.py": func(k knowledge, now time.Time) string {
				return fmt.Sprintf("%d:@alice:matrix.example.org", (now.UnixMilli()+k.lifetime.Milliseconds())/1000)
			},
			"synapse/rest/client/voip.py, for a guest": func(k knowledge, now time.Time) string {
				return fmt.Sprintf("%d:@17:matrix.example.org", (now.UnixMilli()+k.lifetime.Milliseconds())/1000)
			},
		}},
		// Nextcloud is in no package here. The files are those of github.com/nextcloud/spreed at this commit and at 010be7d, and the
		// commands those of docs/occ.md there.
		{"Nextcloud Talk", "commit 00bb210", toldNextcloud, map[string]func(k knowledge, now time.Time) string{
			"lib/Config.php": func(_ knowledge, now time.Time) string {
				return fmt.Sprintf("%d:%s", now.Unix()+86400, nextcloudRandom(16))
			},
			"src/components/AdminSettings/TurnServer.vue": func(_ knowledge, now time.Time) string {
				return fmt.Sprintf("%d:turn-test-user", now.Unix()+5*60)
			},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := freePorts(t)
			config := configure(t, p, allowLoopback, "turn_ttl = \"72h\"")
			start(t, t.TempDir(), "--config", config) // one for each, since many wrong passwords from one address draw no answer
			told := tt.told(t, config)
			if told.secret != secret || !slices.Equal(told.relays, []string{
				fmt.Sprintf("turn:127.0.0.1:%d?transport=udp", p.turn), fmt.Sprintf("turn:127.0.0.1:%d?transport=tcp", p.turn),
				fmt.Sprintf("turns:127.0.0.1:%d?transport=tcp", p.turns),
			}) {
				t.Fatalf("the program is told %+v", told)
			}
			t.Run("forms", func(t *testing.T) {
				for name, form := range tt.forms {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						run := func(secret string, now time.Time) totals {
							username := form(told, now)
							c := credential{host: "127.0.0.1", username: username, password: hmacSHA1(secret, username)}
							return uclient(t, c, p.turn, "-y", "-n", "5", "-m", "2")
						}
						run(told.secret, time.Now()).wantAllBack(t)
						run(told.secret, time.Now().Add(-73*time.Hour)).wantNone(t, "Cannot complete Allocation")
						run("another secret, which is not ours", time.Now()).wantNone(t, "Cannot complete Allocation")
					})
				}
			})
			interop.Record(t, interop.Cell{
				Kind: interop.Door, Name: tt.name, Version: tt.version, How: "credentials as its source computes them, from what is exported for it",
				Control: "another secret; expired credential",
			})
		})
	}
}

// TestFormsOfExpiry allocates under user names that no program above has: coturn's own examples, and eturnal's, with the time alone
// or after the user.
func TestFormsOfExpiry(t *testing.T) {
	t.Parallel()
	p := freePorts(t)
	start(t, t.TempDir(), "--config", configure(t, p, allowLoopback, ""))
	expiry := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	for _, username := range []string{expiry, "alice:" + expiry} {
		c := credential{host: "127.0.0.1", username: username, password: mint(username)}
		uclient(t, c, p.turn, "-y", "-n", "5", "-m", "2").wantAllBack(t)
	}
}

// knowledge is what a program is told of the relay.
type knowledge struct {
	secret   string
	relays   []string // URIs (RFC 7065)
	lifetime time.Duration
}

// toldSynapse reads what is exported as homeserver.yaml, of which every value is JSON as well.
func toldSynapse(t *testing.T, config string) (told knowledge) {
	t.Helper()
	_, text := export(t, "synapse", config)
	value := func(pattern string, v any) {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil || json.Unmarshal([]byte(m[1]), v) != nil {
			t.Fatalf("no %s in\n%s", pattern, text)
		}
	}
	value(`(?m)^turn_shared_secret: (".*")$`, &told.secret)
	var milliseconds int64
	value(`(?m)^turn_user_lifetime: (\d+) `, &milliseconds)
	told.lifetime = time.Duration(milliseconds) * time.Millisecond
	for _, m := range regexp.MustCompile(`(?m)^  - "(.*)"$`).FindAllStringSubmatch(text, -1) {
		told.relays = append(told.relays, m[1])
	}
	return told
}

// occ stands for Nextcloud's command: it writes its arguments, one a line.
const occ = `#!/bin/sh
for argument; do printf '%s\n' "$argument"; done
`

// toldNextcloud runs what is exported, and makes URIs of it as Talk's clients do: of each scheme with each protocol.
func toldNextcloud(t *testing.T, config string) (told knowledge) {
	t.Helper()
	path, text := export(t, "nextcloud", config)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "php"), []byte(occ), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-e", path)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, output, text)
	}
	for arguments := range slices.Chunk(strings.Split(strings.TrimSpace(string(output)), "\n"), 7) {
		if len(arguments) != 7 || arguments[0] != "occ" || arguments[1] != "talk:turn:add" || arguments[3] != "--" {
			t.Fatalf("occ is given %q", arguments)
		}
		told.secret = strings.TrimPrefix(arguments[2], "--secret=")
		for scheme := range strings.SplitSeq(arguments[4], ",") {
			for protocol := range strings.SplitSeq(arguments[6], ",") {
				told.relays = append(told.relays, scheme+":"+arguments[5]+"?transport="+protocol)
			}
		}
	}
	return told
}

// nextcloudRandom returns what ISecureRandom::generate of Nextcloud does by default.
func nextcloudRandom(length int) string {
	text := make([]byte, length)
	rand.Read(text)
	for i := range text {
		text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[text[i]%64]
	}
	return string(text)
}
