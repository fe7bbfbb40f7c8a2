package e2e

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// earlier returns the package of an earlier release: that of the last tag before this commit or, without tags, of the first commit
// that makes packages.
func earlier(t *testing.T) string {
	t.Helper()
	source, dir := filepath.Join(t.TempDir(), "source"), t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git := peer(t, "git", "git")
	run(git, "clone", "--quiet", "../../../..", source)
	head := run(git, "-C", source, "rev-parse", "HEAD")
	commit, err := exec.Command(git, "-C", source, "describe", "--tags", "--abbrev=0", "HEAD^").Output()
	if err != nil {
		commit, err = exec.Command(git, "-C", source, "log", "--diff-filter=A", "--format=%H", "--", "dist/deb/nfpm.yaml").Output()
	}
	found := strings.Fields(string(commit))
	if err != nil || len(found) == 0 || found[len(found)-1] == head {
		lacks(t, "this clone has no earlier commit that makes packages: run git fetch --unshallow")
	}
	run(git, "-C", source, "checkout", "--quiet", found[len(found)-1])
	run(filepath.Join(source, ".ci/release"), dir)
	files, err := filepath.Glob(filepath.Join(dir, "mailturn_*_"+runtime.GOARCH+".deb"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the packages of the earlier release: %q, %v", files, err)
	}
	return files[0]
}

// files lists the files of the machine, except what dpkg and systemd write about their own work.
const files = `find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log -o -path /var/cache -o -path /var/lib/apt \
  -o -path /var/lib/systemd -o -path '/var/lib/dpkg/*-old' -o -path /var/lib/dpkg/lock -o -path '/etc/*-' -o -path '/etc/.pwd.lock' \) -prune -o -print | sort
getent passwd; getent group`

// unitState prints the unit's state: whether it is enabled, and whether it runs.
const unitState = `echo "$(systemctl is-enabled mailturn || true) $(systemctl is-active mailturn || true)"`

// waitUntil returns a command of the shell that waits until another one succeeds, for up to half a minute.
func waitUntil(command string) string {
	return "i=0; until " + command + "; do i=$((i+1)); [ $i -lt 60 ] || exit 1; sleep 0.5; done"
}

// TestPackage installs the package, upgrades, removes and purges it, on both releases of Debian with systemd.
func TestPackage(t *testing.T) {
	deb, before := release(t, "mailturn_*_"+runtime.GOARCH+".deb"), earlier(t)
	for _, root := range []string{"bookworm-systemd", "trixie-systemd"} {
		t.Run(root, func(t *testing.T) {
			t.Parallel()
			m := bootMachine(t, root, deb, before)
			install := func(file string) string {
				t.Helper()
				return m.run(t, "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --reinstall ./"+file)
			}
			current := filepath.Base(deb)
			wantState := func(want string) {
				t.Helper()
				if got := strings.TrimSpace(m.run(t, unitState)); got != want {
					t.Errorf("the unit is %q, want %q; the journal:\n%s", got, want, m.journal())
				}
			}
			process := func() string { return m.run(t, "systemctl show --property=MainPID mailturn") }
			// .ci/debian lets nothing start while it installs. There is no network, so packages that are only recommended cannot come.
			m.run(t, "rm -rf /usr/sbin/policy-rc.d /var/lib/apt/lists/*")
			clean := m.run(t, files)

			// Nothing starts before there is a configuration, which is not a failure.
			if out := install(filepath.Base(before)); !strings.Contains(out, "no configuration yet") {
				t.Errorf("the installation says\n%s", out)
			}
			wantState("enabled inactive")
			m.run(t, "systemctl start mailturn; systemctl is-failed mailturn && exit 1; mailturn version; test -e /usr/share/man/man1/mailturn-run.1.gz")
			wantState("enabled inactive")
			if got, want := m.run(t, "stat --format='%a %U:%G %n' /etc/mailturn /var/lib/mailturn"), "750 root:mailturn /etc/mailturn\n700 mailturn:mailturn /var/lib/mailturn\n"; got != want {
				t.Errorf("the directories are %s", got)
			}

			m.run(t, `install -m 0640 -g mailturn /usr/share/doc/mailturn/examples/maddy.conf.example /etc/mailturn/maddy.conf
systemctl start mailturn`)
			wantState("enabled active")
			const probe = `cp /var/lib/mailturn/selfsigned.crt /tmp/ca.crt
MAILTURN_PASSWORD=wonderland mailturn probe --quick --ca /tmp/ca.crt imaps://alice%40localhost@localhost:11993`
			m.run(t, probe)

			// An upgrade leaves the configuration and the state as they are, to which it may add files, and restarts.
			const version = "readlink /proc/$(systemctl show --property=MainPID --value mailturn)/exe; dpkg-query --show mailturn; mailturn version | head -n 1"
			earlierVersion := m.run(t, version)
			earlierProcess := process()
			m.run(t, "sha256sum /etc/mailturn/* /var/lib/mailturn/* >/tmp/before")
			install(current)
			wantState("enabled active")
			if process() == earlierProcess {
				t.Error("the upgrade has not restarted mailturn")
			}
			if got := m.run(t, version); got == earlierVersion {
				t.Errorf("the upgrade has left %s", got)
			}
			m.run(t, "sha256sum --check --quiet /tmp/before\n"+probe)

			// From a version that can, calls are handed over. systemd follows the process, and notices when it ends.
			takenOver := func(what string, before string) {
				t.Helper()
				wantState("enabled active")
				if process() == before {
					t.Errorf("%s has not handed over; the journal:\n%s", what, m.journal())
				}
				m.run(t, probe)
			}
			running := process()
			if out := install(current); !strings.Contains(out, "Upgraded to") {
				t.Errorf("the second upgrade says\n%s", out)
			}
			takenOver("the second upgrade", running)
			running = process()
			m.run(t, "cp /usr/bin/mailturn /usr/bin/mailturn.new; mv /usr/bin/mailturn.new /usr/bin/mailturn; systemctl reload mailturn")
			takenOver("a reload after the program was replaced", running)
			running = process()
			m.run(t, "kill -KILL $(systemctl show --property=MainPID --value mailturn)\n"+
				waitUntil(`[ "$(systemctl show --property=NRestarts --value mailturn)" = 1 ] && systemctl --quiet is-active mailturn`))
			takenOver("a restart after a crash", running)

			// Hooks of several certificates restart it one after the other. By default, systemd would give up at the sixth.
			m.run(t, "for n in 1 2 3 4 5 6 7; do systemctl restart mailturn; done; test $(systemctl show --property=StartLimitIntervalUSec --value mailturn) = 0")
			wantState("enabled active")

			// Only members of the control socket's group may use it. An upgrade from a version without the group creates it.
			m.run(t, `useradd olga; useradd stranger; adduser --quiet olga mailturn-admin
setpriv --reuid=olga --regid=olga --init-groups mailturn ctl status
! setpriv --reuid=stranger --regid=stranger --init-groups mailturn ctl status
userdel olga; userdel stranger`)

			// A version that does not accept the configuration must not end the running one.
			m.run(t, "cp -p /etc/mailturn/maddy.conf /root/; echo 'relm = 1' >>/etc/mailturn/maddy.conf")
			running = process()
			if out := install(current); process() != running || !strings.Contains(out, "is not restarted") || !strings.Contains(out, "relm") {
				t.Errorf("an upgrade with a configuration with errors says\n%s", out)
			}
			m.run(t, "mv /root/maddy.conf /etc/mailturn/")

			// What has been disabled stays so.
			m.run(t, "systemctl disable --now mailturn")
			install(current)
			wantState("disabled inactive")
			m.run(t, "systemctl enable --now mailturn")

			// A removal keeps the administrator's files, so that a later installation continues with them.
			m.run(t, "apt-get remove --yes --quiet mailturn; ! pgrep -x mailturn 2>/dev/null; ! test -e /usr/bin/mailturn; test -e /etc/mailturn/maddy.conf; test -e /var/lib/mailturn/turn.secret")
			m.run(t, "! : 2>/dev/null >/dev/tcp/127.0.0.1/11993")
			install(current)
			wantState("enabled active")
			m.run(t, probe)

			m.run(t, "apt-get purge --yes --quiet mailturn\nrm /tmp/ca.crt /tmp/before")
			if diff := cmp.Diff(strings.Split(clean, "\n"), strings.Split(m.run(t, files), "\n")); diff != "" {
				t.Errorf("a purge leaves: -before +after\n%s", diff)
			}
			m.run(t, "! systemctl cat mailturn 2>/dev/null")
		})
	}
}

// installPackage installs the package and sets mailturn up as documented, for want of a terminal without being asked. TestPackage has
// the rest of its life, and TestSetup that of what setup does.
func installPackage(t *testing.T, _ documents, b recipe.Block) {
	s := bootMailServer(t, "bookworm-systemd", release(t, "mailturn_*_"+runtime.GOARCH+".deb"))
	s.run(t, replaced(t, b, "mailturn setup", "mailturn setup --yes"))
	if told := s.login(t).command(t, askRelay); !strings.Contains(told, hostName+":3478:") {
		t.Errorf("a client is told %q", told)
	}
	bootMachine(t, "bookworm-systemd", release(t, "SHA256SUMS")).fails(t, "rm -rf /usr/sbin/policy-rc.d /var/lib/apt/lists/*\n"+b.Text, "Unsupported file")
	worked(t, b, s.systemdVersion(t), "install with apt, and setup in front of Dovecot", "without the package in the directory")
}
