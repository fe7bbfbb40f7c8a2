package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// A simulated machine is one whose Dovecot and mailturn listen where their files say, once they are told to read them.
type simulated struct {
	*scenario
	dovecot, mailturn map[netip.AddrPort]bool
	enabled           bool
	keeps             bool                    // the service manager stores descriptors
	stored            map[netip.AddrPort]bool // the sockets of Dovecot's that it has stored
	done              []string                // the commands, and what was asked
	// before is called before each of them, with its number.
	before func(n int) error
	t      *testing.T
}

// reloadSignal is how mailturn is told to listen where Dovecot did.
const reloadSignal = "systemctl kill --kill-who=main --signal=HUP mailturn.service"

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	any4      = netip.MustParseAddr("0.0.0.0")
)

// newSimulated makes a machine from testdata/base with the parts of another archive in their place.
func newSimulated(t *testing.T, parts string) *simulated {
	t.Helper()
	return newSimulatedOn(t, t.TempDir(), parts)
}

// newSimulatedOn makes one in a directory.
func newSimulatedOn(t *testing.T, root, parts string) *simulated {
	t.Helper()
	base, err := txtar.ParseFile("testdata/base")
	if err != nil {
		t.Fatal(err)
	}
	m := &simulated{scenario: newScenarioIn(t, root, changed(base, txtar.Parse([]byte(parts)))), mailturn: map[netip.AddrPort]bool{}, t: t}
	m.write(t, "/etc/group", fmt.Sprintf("mailturn:x:%d:\n", os.Getgid()))
	m.before = func(int) error { return nil }
	m.dovecot = map[netip.AddrPort]bool{netip.AddrPortFrom(any4, 993): true, netip.AddrPortFrom(any4, 143): true}
	m.publish()
	m.Store = func(pid int, sockets map[string][]Descriptor) error {
		if err := m.note("store"); err != nil {
			return err
		}
		if !m.keeps {
			return errors.ErrUnsupported
		}
		m.stored = make(map[netip.AddrPort]bool)
		for hostPort, descriptors := range sockets {
			if m.stored[netip.MustParseAddrPort(hostPort)] = true; pid != 77 || len(descriptors) != 1 || descriptors[0].PID != 11 {
				return fmt.Errorf("%v for %s, for process %d", descriptors, hostPort, pid)
			}
		}
		return nil
	}
	look := m.Run
	m.Run = func(ctx context.Context, program string, args ...string) (string, error) {
		command := strings.Join(append([]string{filepath.Base(program)}, args...), " ")
		if err := m.note(command); err != nil {
			return "", err
		}
		if err := ctx.Err(); err != nil {
			return "", err // a program is not started then, or killed
		}
		if output, known, err := m.carryOut(command); known {
			return output, err
		}
		return look(ctx, program, args...)
	}
	m.Greeting = func(ctx context.Context, address string, _ bool, serverName string) error {
		if err := m.note("greeting at " + address); err != nil {
			return err
		}
		addr := netip.MustParseAddrPort(address)
		if m.mailturn[addr] || m.mailturn[netip.AddrPortFrom(any4, addr.Port())] {
			return ctx.Err()
		}
		if serverName == "" && (m.dovecot[addr] || m.dovecot[netip.AddrPortFrom(any4, addr.Port())]) {
			return ctx.Err()
		}
		return stopRetrying{errors.New("connection refused")}
	}
	m.Allocation = func(ctx context.Context, address netip.AddrPort, _ string) error {
		if err := m.note("allocation at " + address.String()); err != nil {
			return err
		}
		if len(m.mailturn) == 0 {
			return stopRetrying{errors.New("no answer")}
		}
		return ctx.Err()
	}
	return m
}

// note counts what is done.
func (m *simulated) note(what string) error {
	m.done = append(m.done, what)
	return m.before(len(m.done))
}

// carryOut does what commands of systemd, Dovecot and the system do.
func (m *simulated) carryOut(command string) (output string, known bool, err error) {
	switch {
	case command == "doveconf service/imap-login":
		return m.listeners(), true, nil
	case command == "doveconf -n" && strings.Contains(m.settings(), "broken"):
		return "error", true, errors.New("exit status 89")
	case command == "systemctl reload dovecot.service":
		m.reloadDovecot()
	case command == "systemctl start mailturn.service":
		return "", true, m.reloadMailturn()
	case command == "systemctl restart mailturn.service":
		m.mailturn = map[netip.AddrPort]bool{}
		return "", true, m.reloadMailturn()
	case command == "systemctl stop mailturn.service":
		m.mailturn, m.stored = map[netip.AddrPort]bool{}, nil
	case command == "systemctl enable mailturn.service":
		m.enabled = true
	case command == "systemctl disable mailturn.service":
		m.enabled = false
	case command == "systemctl show --property=MainPID --value mailturn.service":
		return "77", true, nil
	case command == "systemctl show --property=NFileDescriptorStore --value mailturn.service":
		return strconv.Itoa(len(m.stored)), true, nil
	case command == "systemctl show --property=ActiveState --value mailturn.service":
		return map[bool]string{true: "active", false: "inactive"}[len(m.mailturn) > 0], true, nil
	case command == "systemctl show --property=UnitFileState --value mailturn.service":
		return map[bool]string{true: "enabled", false: "disabled"}[m.enabled], true, nil
	case command == reloadSignal:
		m.reloadMailturn() // whoever sent the signal is not told
	case command == "mailturn check-config /etc/mailturn/maddy.conf":
	case command == m.path("/etc/letsencrypt/renewal-hooks/deploy/mailturn"), command == "mailturn", strings.HasPrefix(command, "rm -f "),
		strings.HasPrefix(command, "journalctl "):
	default:
		return "", false, nil
	}
	m.publish()
	return "", true, nil
}

// settings returns the files that setup may change.
func (m *simulated) settings() string {
	return m.text("/etc/dovecot/conf.d/99-mailturn.conf") + m.text("/etc/dovecot/local.conf")
}

// listeners prints Dovecot's, as its files have them.
func (m *simulated) listeners() string {
	off := strings.Contains(m.settings(), "port = 0")
	text := "service imap-login {\n"
	for name, number := range map[string]string{"imap": "143", "imaps": "993"} {
		if off {
			number = "0"
		}
		text += fmt.Sprintf("inet_listener %s {\nport = %s\nssl = %s\n}\n", name, number, map[string]string{"imap": "no", "imaps": "yes"}[name])
	}
	if strings.Contains(m.settings(), "inet_listener mailturn") {
		text += "inet_listener mailturn {\naddress = 127.0.0.1\nport = 1143\n}\n"
	}
	return text + "}\n"
}

// reloadDovecot has it listen where it is to, except where somebody else does.
func (m *simulated) reloadDovecot() {
	m.dovecot = map[netip.AddrPort]bool{}
	for _, l := range parseListeners(m.listeners()) {
		host := any4
		if l.Name == internalListener {
			host = loopback4
		}
		if addr := netip.AddrPortFrom(host, l.Port); !m.mailturn[addr] {
			m.dovecot[addr] = true
		}
	}
}

// reloadMailturn has it listen where its file says; nothing changes if somebody else does on one of the addresses.
func (m *simulated) reloadMailturn() error {
	imap := regexp.MustCompile(`(?m)^  listen = \[(.*)\]`).FindStringSubmatch(m.text(ConfigFile))
	if imap == nil {
		return errors.New("no configuration")
	}
	wanted := map[netip.AddrPort]bool{}
	for _, match := range regexp.MustCompile(`t(?:ls|cp)://([^"]*)`).FindAllStringSubmatch(imap[1], -1) {
		addr := netip.MustParseAddrPort(match[1])
		if m.dovecot[addr] && !m.stored[addr] {
			return fmt.Errorf("%v: address already in use", addr)
		}
		wanted[addr] = true
	}
	m.mailturn = wanted
	m.publish()
	return nil
}

// publish writes /proc/net/tcp.
func (m *simulated) publish() {
	for _, name := range m.glob("/proc/*") { // /proc itself may be a link
		os.RemoveAll(m.path(name))
	}
	var text strings.Builder
	for addr := range m.dovecot {
		fmt.Fprintf(&text, "tcp %v 11 dovecot\n", addr)
	}
	for addr := range m.mailturn {
		fmt.Fprintf(&text, "tcp %v 77 mailturn\n", addr)
	}
	m.listen(m.t, text.String())
}

// everything returns all that setup may change.
func (m *simulated) everything(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{
		"dovecot":  fmt.Sprint(slices.SortedFunc(maps.Keys(m.dovecot), netip.AddrPort.Compare)),
		"mailturn": fmt.Sprint(slices.SortedFunc(maps.Keys(m.mailturn), netip.AddrPort.Compare)), "enabled": fmt.Sprint(m.enabled),
	}
	err := filepath.WalkDir(m.Root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(path, m.path("/proc")) || path == m.Root {
			return err
		}
		name := strings.TrimPrefix(path, m.Root)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		all[name] = info.Mode().String()
		if !entry.IsDir() {
			all[name] += " " + m.text(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// plan looks at the machine and plans.
func (m *simulated) plan(t *testing.T) *Plan {
	t.Helper()
	facts, err := m.Look(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	facts.FreeBytes = minFree // a test has a disk that is full later
	plan := facts.Plan(m.Machine, Options{})
	if len(plan.Problems) > 0 {
		t.Fatalf("problems: %v", plan.Problems)
	}
	m.done = nil
	return plan
}

func silent(string) {}

// TestApply sets a machine up and takes it back. Somebody answers at the ports of IMAP all the time, but for the moment between two
// commands where mailturn cannot be given Dovecot's sockets.
func TestApply(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		t.Run(fmt.Sprintf("sockets are stored: %v", keeps), func(t *testing.T) { testApply(t, keeps) })
	}
}

func testApply(t *testing.T, keeps bool) {
	m := newSimulated(t, "")
	m.keeps = keeps
	before := m.everything(t)
	plan := m.plan(t)
	m.before = func(n int) error {
		for _, port := range imapPorts {
			addr := netip.AddrPortFrom(any4, port)
			pause := !keeps && m.done[n-1] == reloadSignal
			if !m.dovecot[addr] && !m.mailturn[addr] && !pause {
				t.Errorf("nobody listens on %v at %q, after %q", addr, m.done[n-1], m.done[:n-1])
			}
		}
		return nil
	}
	if err := plan.Apply(t.Context(), m.Machine, silent); err != nil {
		t.Fatal(err)
	}
	m.before = func(int) error { return nil }
	after := m.everything(t)
	if after["mailturn"] != "[0.0.0.0:143 0.0.0.0:993]" || after["dovecot"] != "[127.0.0.1:1143]" || after["enabled"] != "true" {
		t.Errorf("got %v", after)
	}
	if j, err := m.ReadJournal(); err != nil || j == nil || !j.Done {
		t.Errorf("the journal is %v, %v", j, err)
	}
	if err := m.Undo(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.everything(t)); diff != "" {
		t.Errorf("undo: -before +after\n%s", diff)
	}
	if err := m.Undo(t.Context(), silent); !errors.Is(err, ErrNotSetUp) {
		t.Errorf("another undo returns %v", err)
	}
}

// TestInterrupted has setup end in each way at each point: with an interrupt, with a failure, or killed and taken back later. Then
// it is done, or nothing has changed.
func TestInterrupted(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		t.Run(fmt.Sprintf("sockets are stored: %v", keeps), func(t *testing.T) { testInterrupted(t, keeps) })
	}
}

func testInterrupted(t *testing.T, keeps bool) {
	var calls int // of a run that nothing ends
	{
		m := newSimulated(t, "")
		m.keeps = keeps
		if err := m.plan(t).Apply(t.Context(), m.Machine, silent); err != nil {
			t.Fatal(err)
		}
		calls = len(m.done)
	}
	if calls < 12 {
		t.Fatalf("only %d calls", calls)
	}
	errKilled := errors.New("killed")
	for n := 1; n <= calls; n++ {
		for _, way := range []string{"interrupted", "failed", "killed"} {
			t.Run(fmt.Sprintf("%s at %d", way, n), func(t *testing.T) {
				m := newSimulated(t, "")
				m.keeps = keeps
				before := m.everything(t)
				plan := m.plan(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				m.before = func(i int) error {
					switch {
					case i != n:
					case way == "interrupted":
						cancel()
					case way == "failed":
						return stopRetrying{errors.New("exit status 1")}
					default:
						panic(errKilled)
					}
					return nil
				}
				err := func() (err error) {
					defer func() {
						if r := recover(); r != nil {
							err = r.(error)
						}
					}()
					return plan.Apply(ctx, m.Machine, silent)
				}()
				if errors.Is(err, errKilled) {
					if _, err := m.Look(t.Context(), Options{}); err != nil {
						t.Fatal(err)
					}
					if err := m.Undo(t.Context(), silent); err != nil {
						t.Fatal(err)
					}
				} else if dispensable := m.done[n-1] == "store" || strings.Contains(m.done[n-1], "NFileDescriptorStore"); err == nil && way != "interrupted" && !dispensable {
					t.Fatal("setup succeeds")
				}
				after := m.everything(t)
				if err == nil && after["mailturn"] == "[0.0.0.0:143 0.0.0.0:993]" {
					return // done before the interrupt was noticed
				}
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("%v after %q: -before +after\n%s", err, m.done, diff)
				}
			})
		}
	}
}

// TestChangedBeforeApply has somebody change a file after the plan was shown.
func TestChangedBeforeApply(t *testing.T) {
	m := newSimulated(t, "-- /etc/dovecot/local.conf --\n# ours\n")
	plan := m.plan(t)
	m.write(t, "/etc/dovecot/local.conf", "# changed\n")
	before := m.everything(t)
	if err := plan.Apply(t.Context(), m.Machine, silent); err == nil || !strings.Contains(err.Error(), "local.conf has changed") {
		t.Errorf("setup returns %v", err)
	}
	if diff := cmp.Diff(before, m.everything(t)); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}

// TestPortTakenInBetween has another program take port 993 in the moment in which nobody has it. mailturn then goes on as it was, and
// so does Dovecot when that program is gone.
func TestPortTakenInBetween(t *testing.T) {
	m := newSimulated(t, "")
	before := m.everything(t)
	plan := m.plan(t)
	stranger := netip.AddrPortFrom(any4, 993)
	m.before = func(n int) error {
		switch m.done[n-1] {
		case reloadSignal:
			m.dovecot[stranger] = true // for mailturn, somebody else
		case "systemctl stop mailturn.service":
			delete(m.dovecot, stranger)
		}
		return nil
	}
	err := plan.Apply(t.Context(), m.Machine, silent)
	if err == nil || !strings.Contains(err.Error(), "step 4") || !strings.Contains(err.Error(), "Everything is as it was") {
		t.Errorf("setup returns %v", err)
	}
	if diff := cmp.Diff(before, m.everything(t)); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}

// TestForgedJournal refuses a journal that others can write: whatever it says would be done as root.
func TestForgedJournal(t *testing.T) {
	m := newSimulated(t, "-- /var/lib/mailturn-setup/journal.json --\n{}\n")
	if err := os.Chmod(m.path(JournalDir), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := m.Undo(t.Context(), silent); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("undo returns %v", err)
	}
}
