package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// turnValue is host:port:user:password as Delta Chat core splits it: at the first three colons, the user a number.
var turnValue = regexp.MustCompile(`^([^:\[\]]+):(\d+):(\d+):([A-Za-z0-9+/]{27}=)$`)

// credential is what a client makes of one metadata value.
type credential struct {
	host, port, username, password string
}

func parseValue(t *testing.T, value string) credential {
	t.Helper()
	m := turnValue.FindStringSubmatch(value)
	if m == nil {
		t.Fatalf("got the value %q, want host:port:user:password", value)
	}
	return credential{m[1], m[2], m[3], m[4]}
}

// imapSession sends the lines to the server through openssl s_client, all at once, and returns what came back.
func imapSession(t *testing.T, port int, caFile string, options []string, lines ...string) string {
	t.Helper()
	openssl := peer(t, "openssl", "openssl")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	args := append([]string{"s_client", "-quiet", "-crlf", "-verify_return_error", "-CAfile", caFile, "-connect", fmt.Sprintf("127.0.0.1:%d", port)}, options...)
	cmd := exec.CommandContext(ctx, openssl, args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

// metadata finds the value of an entry in a transcript.
func metadata(t *testing.T, transcript, entry string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^\* METADATA "" \(.*` + regexp.QuoteMeta(entry) + ` "([^"]*)".*\)$`).FindStringSubmatch(transcript)
	if m == nil {
		t.Fatalf("no METADATA line with %s in:\n%s", entry, transcript)
	}
	return m[1]
}

// discover logs in and asks for the two entries, as a client does.
func discover(t *testing.T, p ports, stateDir, user, password string) (turn, turns credential) {
	t.Helper()
	transcript := imapSession(t, p.imaps, filepath.Join(stateDir, "selfsigned.crt"), nil,
		fmt.Sprintf(`a LOGIN %s %s`, user, password),
		`b GETMETADATA "" (/shared/vendor/deltachat/turn /shared/vendor/deltachat/turns)`,
		`c LOGOUT`)
	return parseValue(t, metadata(t, transcript, "/shared/vendor/deltachat/turn")), parseValue(t, metadata(t, transcript, "/shared/vendor/deltachat/turns"))
}

func TestDiscoveryThroughOpenSSL(t *testing.T) {
	stateDir, p := t.TempDir(), freePorts(t)
	start(t, stateDir, "--config", configure(t, p, "", ""))
	caFile := filepath.Join(stateDir, "selfsigned.crt")

	for _, tt := range []struct {
		name    string
		port    int
		options []string
	}{
		{"implicit TLS", p.imaps, nil},
		{"implicit TLS with ALPN", p.imaps, []string{"-alpn", "imap"}},
		{"implicit TLS 1.2", p.imaps, []string{"-tls1_2"}},
		{"STARTTLS", p.imap, []string{"-starttls", "imap"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			transcript := imapSession(t, tt.port, caFile, tt.options,
				`a CAPABILITY`,
				`b LOGIN alice@example.org wonderland`,
				`c CAPABILITY`,
				`d GETMETADATA "" /shared/vendor/deltachat/turn`,
				`e LOGOUT`)
			before, after, found := strings.Cut(transcript, "\nb OK ")
			if !found {
				t.Fatalf("LOGIN was not accepted:\n%s", transcript)
			}
			if strings.Contains(before, "METADATA") {
				t.Errorf("METADATA is advertised before login:\n%s", transcript)
			}
			if loginCode, _, _ := strings.Cut(after, "\n"); !regexp.MustCompile(`\[CAPABILITY .* METADATA( .*)?\]`).MatchString(loginCode) {
				t.Errorf("the OK of LOGIN does not list METADATA: %s", loginCode)
			}
			if !regexp.MustCompile(`(?m)^\* CAPABILITY .* METADATA( |$)`).MatchString(after) {
				t.Errorf("CAPABILITY after login does not list METADATA:\n%s", transcript)
			}

			c := parseValue(t, metadata(t, transcript, "/shared/vendor/deltachat/turn"))
			if c.host != "127.0.0.1" || c.port != strconv.Itoa(p.turn) {
				t.Errorf("got %s:%s, want the TURN endpoint 127.0.0.1:%d", c.host, c.port, p.turn)
			}
			expiry, _ := strconv.ParseInt(c.username, 10, 64)
			if left := time.Until(time.Unix(expiry, 0)); left < 5*24*time.Hour*9/10-time.Minute || left > 5*24*time.Hour {
				t.Errorf("the credential is good for %v, want 5 days", left)
			}
		})
	}
}

func TestNoMetadataWithoutLogin(t *testing.T) {
	stateDir, p := t.TempDir(), freePorts(t)
	start(t, stateDir, "--config", configure(t, p, "", ""))
	transcript := imapSession(t, p.imaps, filepath.Join(stateDir, "selfsigned.crt"), nil,
		`a LOGIN alice@example.org looking-glass`,
		`b GETMETADATA "" /shared/vendor/deltachat/turn`,
		`c LOGOUT`)
	if !regexp.MustCompile(`(?m)^a NO .*[Aa]uthentication`).MatchString(transcript) {
		t.Errorf("a wrong password was not refused with NO and the word that clients look for:\n%s", transcript)
	}
	if !regexp.MustCompile(`(?m)^b BAD `).MatchString(transcript) || strings.Contains(transcript, "* METADATA") {
		t.Errorf("GETMETADATA without login was not refused with BAD:\n%s", transcript)
	}
}
