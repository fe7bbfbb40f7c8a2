package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
)

const fail2banFiles = "../../../../dist/fail2ban"

// clientFrom is turnClient with an address of the client.
func clientFrom(t *testing.T, p ports, from string, c credential) *turnclient.Client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("udp", fmt.Sprintf("127.0.0.1:%d", p.turn))
	if err != nil {
		t.Fatal(err)
	}
	client := turnclient.New(turnclient.Config{Conn: conn, Username: c.username, Password: c.password})
	t.Cleanup(func() { client.Close() })
	if _, err := client.Challenge(t.Context()); err != nil {
		t.Fatal(err)
	}
	return client
}

// guess sends a wrong password for a user from an address.
func guess(t *testing.T, p ports, from, user string) {
	t.Helper()
	client := clientFrom(t, p, from, credential{username: user, password: "wrong"})
	if _, err := client.Allocate(t.Context()); turnclient.Code(err) != 401 {
		t.Fatalf("a wrong password is answered with %v", err)
	}
}

// TestFail2banFilter has fail2ban's own tool read the log of guesses, in both formats: it finds each with its address, whatever the user
// name says, and nothing where log_guesses is not set.
func TestFail2banFilter(t *testing.T) {
	tool := peer(t, "fail2ban-regex", "fail2ban")
	for _, format := range []string{"text", "json"} {
		for _, on := range []bool{true, false} {
			t.Run(fmt.Sprint(format, " ", on), func(t *testing.T) {
				p := freePorts(t)
				path := configure(t, p, fmt.Sprintf("log_guesses = %v", on), "")
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				text = []byte(strings.Replace(string(text), `level = "debug"`, fmt.Sprintf("level = \"debug\"\n  format = %q", format), 1))
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
				s := &server{cmd: exec.Command(binary, "run", "--state-dir", t.TempDir(), "--config", path), stdout: &lines{}, stderr: &lines{}}
				s.run(t)
				s.waitFor(t, s.stderr, "version") // ready, in either format
				for _, user := range []string{
					"1796031863",
					`x level=WARN msg="wrong password" kind=turn endpoint=turn client=192.0.2.66:1 transport=UDP`,
					"x\n" + time.Now().Format("2006-01-02T15:04:05.000Z07:00") + ` level=WARN msg="wrong password" kind=turn endpoint=turn client=192.0.2.66:1 `,
					`x","client":"192.0.2.66:1","level":"WARN","msg":"wrong password","kind":"turn","endpoint":"turn","client":"192.0.2.66:1",`,
					`{"level":"WARN","msg":"wrong password","kind":"turn","endpoint":"turn","client":"192.0.2.66:1",`,
				} {
					guess(t, p, "127.0.0.66", user)
				}
				guess(t, p, "127.0.0.67", "1796031863")
				s.stop(t)
				log := filepath.Join(t.TempDir(), "log")
				if err := os.WriteFile(log, []byte(s.stderr.String()), 0o600); err != nil {
					t.Fatal(err)
				}
				out, err := exec.Command(tool, "--out", "ip", log, fail2banFiles+"/filter.d/mailturn.conf").CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				want := strings.Repeat("127.0.0.66\n", 5) + "127.0.0.67\n"
				if !on {
					want = ""
				}
				if string(out) != want {
					t.Errorf("fail2ban finds\n%swant\n%s", out, want)
				}
			})
		}
	}
}

// TestFail2banBans has fail2ban follow the log of guesses: mailturn ctl ban ends the call of their address, refuses the next one, and
// no other.
func TestFail2banBans(t *testing.T) {
	server, control := peer(t, "fail2ban-server", "fail2ban"), peer(t, "fail2ban-client", "fail2ban")
	dir, err := os.MkdirTemp("", "fail2ban") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, format string, args ...any) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stateDir, p := t.TempDir(), freePorts(t)
	path := configure(t, p, "log_guesses = true\n"+allowLoopback, "")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write("maddy.conf", "%scontrol {\n  path = \"control.socket\"\n}\n", text)
	s := start(t, stateDir, "--config", filepath.Join(dir, "maddy.conf"))
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	bob, _ := discover(t, p, stateDir, "bob@example.org", "builder")
	const attacker = "127.0.0.66"
	running, other := clientFrom(t, p, attacker, alice), clientFrom(t, p, "127.0.0.67", bob)
	for _, client := range []*turnclient.Client{running, other} {
		if _, err := client.Allocate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	guess(t, p, "127.0.0.67", "1796031863") // fewer than maxretry
	for range 3 {
		guess(t, p, attacker, "1796031863")
	}

	if out, err := exec.Command("cp", "-R", fail2banFiles+"/filter.d", fail2banFiles+"/action.d", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	write("mailturn.log", "%s", s.stderr)
	write("fail2ban.conf", `[Definition]
loglevel = DEBUG
logtarget = STDOUT
syslogsocket = auto
socket = %[1]s/fail2ban.sock
pidfile = %[1]s/fail2ban.pid
dbfile = None
dbpurgeage = 1d
allowipv6 = auto
`, dir)
	write("jail.conf", `[mailturn]
enabled = true
backend = polling
filter = mailturn
logpath = %[1]s/mailturn.log
action = mailturn[mailturn="%[2]s", options="--socket %[1]s/control.socket"]
maxretry = 3
findtime = 10m
bantime = 1h
`, dir, binary)
	options := []string{"-c", dir, "-s", dir + "/fail2ban.sock", "-p", dir + "/fail2ban.pid"}
	d, err := daemon.Start(t.Context(), exec.Command(server, append(options, "-f", "start")...), "Jail 'mailturn' started")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.Stop()
		if t.Failed() {
			t.Logf("fail2ban's log:\n%s", d.Log())
		}
	})

	if line := s.waitFor(t, s.stderr, "msg=banned by="); !strings.Contains(line, "network="+attacker+"/32") || !strings.Contains(line, `reason="fail2ban, mailturn"`) {
		t.Errorf("the log says %s", line)
	}
	if _, err := running.Refresh(t.Context(), time.Minute); turnclient.Code(err) != 437 {
		t.Errorf("the call from the address of the guesses: got %v, want 437", err)
	}
	if _, err := other.Refresh(t.Context(), time.Minute); err != nil {
		t.Errorf("the call of somebody else: %v", err)
	}
	if _, err := clientFrom(t, p, attacker, alice).Allocate(t.Context()); turnclient.Code(err) != 403 {
		t.Errorf("another call: got %v, want 403", err)
	}
	// fail2ban does not lift a ban in mailturn whose command has not ended.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(startLimit); !strings.Contains(d.Log(), "returned successfully"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("fail2ban's command did not end in %v", startLimit)
		}
	}
	if out, err := exec.Command(control, append(options, "set", "mailturn", "unbanip", attacker)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.waitFor(t, s.stderr, `msg="ban lifted"`)
	if _, err := clientFrom(t, p, attacker, alice).Allocate(t.Context()); err != nil {
		t.Errorf("after the ban: %v", err)
	}
}

// TestFail2banJail has fail2ban read the journal with the files of dist, as the documentation says, on a machine with systemd: an
// address that guesses is banned, and the ban ends with that of fail2ban.
func TestFail2banJail(t *testing.T) {
	files, err := filepath.Abs(fail2banFiles)
	if err != nil {
		t.Fatal(err)
	}
	unit, err := filepath.Abs("../../../../dist/mailturn.service")
	if err != nil {
		t.Fatal(err)
	}
	m := bootMachine(t, "bookworm-fail2ban", binary, unit, files)
	m.write(t, "/etc/fail2ban/jail.d/here.local", "[sshd]\n# Its log does not exist here, which would end fail2ban.\nenabled = false\n[mailturn]\n# The guesses come from this machine.\nignoreself = false\n")
	m.write(t, "/etc/mailturn/maddy.conf", `hostname = "localhost"
endpoint "turn" "turn" {
  listen      = ["udp://127.0.0.1:3478"]
  relay_ip    = "127.0.0.1"
  log_guesses = true
}
`)
	m.write(t, "/etc/wrong", "another secret\n")
	m.run(t, `useradd --system mailturn
install -m 0755 /src/mailturn /usr/local/bin/
install -m 0644 /src/mailturn.service /etc/systemd/system/
chgrp mailturn /etc/mailturn/maddy.conf; chmod 0640 /etc/mailturn/maddy.conf
cp -R /src/fail2ban/filter.d /src/fail2ban/action.d /src/fail2ban/jail.d /etc/fail2ban/
systemctl daemon-reload
systemctl start mailturn
systemctl restart fail2ban`)
	const wait = `
until_true() { for i in $(seq 240); do "$@" && return; sleep 0.5; done; mailturn ctl bans; fail2ban-client status mailturn; journalctl --unit=mailturn | tail -n 30; return 1; }
jails() { fail2ban-client status mailturn >/dev/null 2>&1; }
banned() { mailturn ctl bans | grep -q '127.0.0.1/32 .*fail2ban, mailturn'; }
lifted() { mailturn ctl bans | grep -q 'There are no bans'; }
`
	m.run(t, wait+`until_true jails
for i in $(seq 40); do mailturn probe --quick --secret-file /etc/wrong turn:127.0.0.1 >/dev/null 2>&1 || true; done
until_true banned
fail2ban-client status mailturn | grep -q 'Banned IP list:.*127.0.0.1'
fail2ban-client set mailturn unbanip 127.0.0.1
until_true lifted`)
}
