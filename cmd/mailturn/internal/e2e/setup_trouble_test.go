package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// setupState prints what setup may change: what Dovecot reads, the firewall, units, and all files but what mailturn has generated.
const setupState = `doveconf -n | grep -v '^#'
doveconf service/imap-login
ufw status
cat /proc/sys/net/ipv4/ip_local_reserved_ports
` + unitState + `
find /etc -xdev -type f ! -name '*-' ! -name .pwd.lock ! -name maddy.conf.changed | sort | xargs -d '\n' sha256sum
(` + files + `) | grep -v '^/var/lib/mailturn/\|^/var/tmp/systemd-private-\|^/home/\|/maddy.conf.changed$'`

// A troubled machine is a mail server on which mailturn is installed and cannot be set up so easily.
type troubled struct {
	mailServer
	before string // setupState
}

func bootTroubled(t *testing.T) troubled {
	t.Helper()
	deb := release(t, "mailturn_*_"+runtime.GOARCH+".deb")
	s := troubled{mailServer: bootMailServer(t, "bookworm-systemd", deb)}
	s.run(t, "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet ./"+filepath.Base(deb))
	s.before = s.run(t, setupState)
	return s
}

// unchanged checks that everything is as before, and that Dovecot answers.
func (s troubled) unchanged(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(strings.Split(s.before, "\n"), strings.Split(s.run(t, setupState), "\n")); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
	s.login(t).command(t, "NOOP")
	s.run(t, "systemctl reset-failed mailturn || true") // which lets it start more than five times in ten seconds
}

// refuses runs setup, which must fail for a reason, and change nothing.
func (s troubled) refuses(t *testing.T, script, reason string) {
	t.Helper()
	if out, err := s.command(script).CombinedOutput(); err == nil || !strings.Contains(string(out), reason) {
		t.Errorf("got %v, want a failure for %q\n%s", err, reason, out)
	}
}

// TestSetupTrouble runs setup where something is wrong, or goes wrong on the way: afterwards everything is as it was.
func TestSetupTrouble(t *testing.T) {
	t.Parallel()
	s := bootTroubled(t)
	t.Run("Dovecot with a broken configuration", func(t *testing.T) {
		s.run(t, "echo 'mail_locatoin = x' >/etc/dovecot/conf.d/99-typo.conf")
		s.refuses(t, "mailturn setup --yes", "Dovecot's configuration has an error:\n  doveconf: Fatal: Error in configuration file /etc/dovecot/conf.d/99-typo.conf line 1: Unknown setting: mail_locatoin")
		s.run(t, "rm /etc/dovecot/conf.d/99-typo.conf")
		s.unchanged(t)
	})
	t.Run("a name without DNS", func(t *testing.T) {
		s.refuses(t, "mailturn setup --yes --hostname nowhere.example.org", "nowhere.example.org (--hostname): ")
		s.unchanged(t)
	})
	t.Run("ports of others", func(t *testing.T) {
		const stranger = "from socket import *; import time; sockets = [socket(AF_INET, SOCK_STREAM), socket(AF_INET, SOCK_DGRAM)]; " +
			"sockets[0].bind(('0.0.0.0', 143)); sockets[0].listen(); sockets[1].bind(('0.0.0.0', 3478)); time.sleep(999)"
		s.run(t, `printf 'service imap-login {\n  inet_listener imap {\n    port = 0\n  }\n}\n' >/etc/dovecot/conf.d/98-ours.conf
systemctl reload dovecot
while grep -q ':008F 00000000:0000 0A' /proc/net/tcp; do sleep 0.1; done
systemd-run --quiet --unit=stranger python3 -c "`+stranger+`"
until grep -q ':0D96 ' /proc/net/udp; do sleep 0.1; done`)
		s.refuses(t, "mailturn setup --yes", "python3 (process ")
		out := s.run(t, `systemctl kill --signal=KILL stranger
systemd-run --quiet --unit=stranger2 python3 -c "`+strings.Replace(stranger, "143", "2143", 1)+`"
until grep -q ':0D96 ' /proc/net/udp; do sleep 0.1; done
mailturn setup --dry-run
systemctl kill --signal=KILL stranger2
rm /etc/dovecot/conf.d/98-ours.conf
systemctl reload dovecot`)
		if !strings.Contains(out, "listens on port 3479 instead of 3478\n    because python3 (process ") {
			t.Errorf("beside another TURN server, setup says\n%s", out)
		}
		s.run(t, "systemctl reset-failed 'stranger*' || true; rm -f /run/systemd/transient/stranger*")
		s.unchanged(t)
	})
	t.Run("a full disk", func(t *testing.T) {
		// Only where the configuration is written, which is after Dovecot has been reloaded.
		s.run(t, "mount -t tmpfs -o size=8k,mode=0750 tmpfs /etc/mailturn; chgrp mailturn /etc/mailturn; dd if=/dev/zero of=/etc/mailturn/fill bs=4096 count=2 2>/dev/null")
		s.refuses(t, "mailturn setup --yes", ": No space left on device\nEverything is as it was before")
		s.run(t, "umount /etc/mailturn")
		s.unchanged(t)
	})
	for _, tt := range []struct {
		step int
		end  syscall.Signal
	}{
		{1, syscall.SIGINT}, {2, syscall.SIGKILL}, {3, syscall.SIGTERM}, {4, syscall.SIGHUP}, {4, syscall.SIGKILL}, {5, syscall.SIGINT}, {5, syscall.SIGKILL},
	} {
		t.Run(fmt.Sprintf("%v at step %d", tt.end, tt.step), func(t *testing.T) { s.interrupt(t, tt.step, tt.end) })
	}
	t.Run("ufw", func(t *testing.T) { s.behindUFW(t) })
}

// interrupt ends setup at a step.
func (s troubled) interrupt(t *testing.T, step int, end syscall.Signal) {
	announced := false
	out, err := s.follow(t, "exec mailturn setup --yes </dev/null", func(line string, process *os.Process) {
		if strings.HasPrefix(line, fmt.Sprintf("%d/5 ", step)) {
			announced = true
			process.Signal(end)
		}
	})
	if !announced {
		t.Fatalf("there is no step %d: %v\n%s", step, err, out)
	}
	switch {
	case err == nil && step == 5 && strings.Contains(out, "Done."): // it was too late
		s.run(t, "mailturn setup --undo")
	case end == syscall.SIGKILL:
		s.awaitLogin(t).command(t, "NOOP") // halfway, somebody answers; while Dovecot reloads, it ends connections
		s.refuses(t, "mailturn setup --yes", "mailturn setup --undo undoes what it has done so far")
		s.run(t, "mailturn setup --undo")
	case err == nil || !strings.Contains(out, "interrupted\nEverything is as it was before"):
		t.Errorf("setup ends with %v\n%s", err, out)
	}
	s.unchanged(t)
}

// behindUFW has a firewall that drops what is not allowed.
func (s troubled) behindUFW(t *testing.T) {
	const rules = "ufw status; ufw show added; iptables-save | grep -v '^[#:]'; ip6tables-save | grep -v '^[#:]'"
	s.run(t, "ufw allow 993/tcp >/dev/null; ufw allow 5349/udp comment ours >/dev/null; ufw --force enable")
	before := s.run(t, rules)
	out := s.run(t, "mailturn setup --yes; ufw status")
	for _, want := range []string{"3478/udp", "3478/tcp", "5349/tcp", "49152:65535/udp"} {
		if !strings.Contains(out, "ufw allow "+want+" comment mailturn\n") || strings.Count(out, "\n"+want+" ") < 1 {
			t.Errorf("ufw does not allow %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "ufw allow 5349/udp") {
		t.Errorf("a rule that exists is made again:\n%s", out)
	}
	s.run(t, "mailturn setup --undo")
	if diff := cmp.Diff(before, s.run(t, rules)); diff != "" {
		t.Errorf("rules of the firewall: -before +after undo\n%s", diff)
	}
}

// TestSetupAsks answers, or does not answer, each question that setup asks at a terminal.
func TestSetupAsks(t *testing.T) {
	t.Parallel()
	s := bootTroubled(t)
	const (
		other   = "mailturn setup --hostname " + authorityName // for which there is no certificate
		email   = "Address for the account there [postmaster@" + authorityName + "]: "
		agree   = "Do you agree to its terms of service? [y/N] "
		changes = "Make these changes? [y/N] "
	)
	type typing struct{ question, keys string }
	for _, tt := range []struct {
		name   string
		script string
		typing []typing
		want   string
		status int
	}{
		{"no", "mailturn setup", []typing{{changes, "n\n"}}, "Nothing has been changed.", 0},
		{"nothing", "mailturn setup", []typing{{changes, "\n"}}, "Nothing has been changed.", 0},
		{"garbage", "mailturn setup", []typing{{changes, "yikes \x1b[A\xff\n"}}, "Nothing has been changed.", 0},
		{"end of file", "mailturn setup", []typing{{changes, ctrlD}}, "Nothing has been changed.", 0},
		{"Ctrl-C", "mailturn setup", []typing{{changes, ctrlC}}, "interrupted; nothing has been changed", 1},
		{"no agreement", other, []typing{{email, "\n"}, {agree, "n\n"}}, "add --email ADDRESS and --agree-to-terms", 1},
		{"garbage as agreement", other, []typing{{email, "\n"}, {agree, "yikes\n"}}, "add --email ADDRESS and --agree-to-terms", 1},
		{"Ctrl-C instead of an address", other, []typing{{email, ctrlC}}, "interrupted; nothing has been changed", 1},
		{"Ctrl-C instead of an agreement", other, []typing{{email, "\n"}, {agree, ctrlC}}, "interrupted; nothing has been changed", 1},
		{"end of file instead of an address", other, []typing{{email, ctrlD}, {agree, ctrlD}}, "add --email ADDRESS and --agree-to-terms", 1},
		{"no address", other, []typing{{email, "nobody\n"}, {"\"nobody\" is no mail address.", ""}, {email, "me@" + hostName + "\n"}, {agree, "yes\n"}, {`+    email          = "me@` + hostName + `"`, ""}, {changes, "n\n"}}, "Nothing has been changed.", 0},
		{"yes", "mailturn setup", []typing{{changes, " Yes \n"}}, "Done.", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := s.atTerminal(t, tt.script)
			for _, next := range tt.typing {
				x.expect(t, next.question, next.keys)
			}
			screen, _ := x.wait(t)
			if status := x.cmd.ProcessState.ExitCode(); status != tt.status || !strings.Contains(screen, tt.want) {
				t.Errorf("setup ends with %d, want %d; it says\n%s", status, tt.status, screen)
			}
			if tt.want == "Done." {
				s.run(t, "mailturn setup --undo")
			}
			s.unchanged(t)
		})
	}
}
