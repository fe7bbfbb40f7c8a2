package e2e

import (
	"bytes"
	bigendian "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/framework/handoff"
)

const (
	// upgradeCount is how often mailturn is upgraded, to and fro between two builds.
	upgradeCount = 20
	// upgradeGap is the longest time without a packet that an upgrade may cause here. It causes 100 ms at most on a machine that does
	// nothing else; the other tests delay it.
	upgradeGap = 500 * time.Millisecond
)

// installation is a mailturn that was installed, and can be replaced while it runs.
type installation struct {
	program, config, socket string
	network                 namespace // in which it runs; empty for that of the test
	log                     *lines
	manager                 *descriptorStore // that starts it
}

// newInstallation installs a program with a configuration.
func newInstallation(t *testing.T, program, config string) *installation {
	t.Helper()
	dir := t.TempDir()
	i := &installation{program: filepath.Join(dir, "mailturn"), config: config, socket: filepath.Join(dir, "control.socket"), log: &lines{}, manager: newDescriptorStore(t)}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, fmt.Sprintf("\ncontrol {\n  path = %q\n}\n", i.socket)...)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	i.replace(t, program)
	return i
}

// replace installs another program in place of the present one, as package managers do.
func (i *installation) replace(t *testing.T, program string) {
	t.Helper()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.program+".new", b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(i.program+".new", i.program); err != nil {
		t.Fatal(err)
	}
}

// start starts the program, and waits until it is ready. The process that serves at the end of the test is ended. exited is closed when
// the first process has ended.
func (i *installation) start(t *testing.T, stateDir string) (first *os.Process, exited <-chan struct{}) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(i.program, "run", "--state-dir", stateDir, "--config", i.config)
	if i.network != "" {
		cmd = i.network.command(cmd.Path, cmd.Args[1:]...) // which becomes the program
	}
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+i.manager.path)
	cmd.Stdout, cmd.Stderr = writer, writer // the processes to come inherit it
	i.manager.mu.Lock()
	err = cmd.Start()
	if err == nil {
		i.manager.main = cmd.Process.Pid
	}
	i.manager.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	s := &server{cmd: cmd, stdout: &lines{}, stderr: i.log, exited: make(chan error, 1)}
	ended, copied := make(chan struct{}), make(chan struct{})
	go func() {
		s.exited <- cmd.Wait()
		close(ended)
	}()
	go func() {
		defer close(copied)
		_, _ = io.Copy(i.log, reader)
	}()
	t.Cleanup(func() {
		if status, err := i.status(); err == nil {
			_ = syscall.Kill(status.PID, syscall.SIGTERM)
		} else {
			_ = cmd.Process.Kill()
		}
		select {
		case <-copied: // all of them have ended
		case <-time.After(stopLimit):
			t.Error("mailturn does not end")
			_ = cmd.Process.Kill()
		}
		if t.Failed() {
			t.Logf("mailturn's log:\n%s", i.log)
		}
	})
	s.waitFor(t, i.log, "msg=ready")
	i.manager.want(t, "READY")
	return cmd.Process, ended
}

// maxAttempts is how often upgradeBy tries.
const maxAttempts = 10

// upgradeBy upgrades by calling start, and returns when the other process serves. While other programs use the processors, an upgrade
// may take longer than calls can be interrupted. mailturn then refuses it, and upgradeBy tries again, as an operator would.
func (i *installation) upgradeBy(t *testing.T, start func() error) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		logged := len(i.log.String())
		err := start()
		outcome := i.outcome(t, logged)
		if strings.Contains(outcome, "msg=ready") {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if attempt == maxAttempts || !strings.Contains(outcome, "interrupted for more than") {
			t.Fatal(outcome)
		}
		t.Logf("attempt %d: %s", attempt, outcome)
	}
}

// outcome waits for the line of the log that says how an upgrade ended, after the first bytes of the log.
func (i *installation) outcome(t *testing.T, after int) string {
	t.Helper()
	late := time.After(startLimit)
	for {
		ready, changed := i.log.find(after, "msg=ready")
		failed, _ := i.log.find(after, "msg=\"upgrade failed")
		if ready != "" || failed != "" {
			return ready + failed
		}
		select {
		case <-changed:
		case <-late:
			t.Fatal("an upgrade neither succeeded nor failed")
		}
	}
}

// upgrade upgrades by mailturn upgrade, and returns how long calls were interrupted.
func (i *installation) upgrade(t *testing.T) time.Duration {
	t.Helper()
	var report struct {
		InterruptedMS float64 `json:"interrupted_ms"`
	}
	i.upgradeBy(t, func() error { return i.ctl(&report, "upgrade") })
	return time.Duration(report.InterruptedMS * float64(time.Millisecond))
}

// ctl runs a command of the program, and decodes its answer into out, unless that is nil.
func (i *installation) ctl(out any, args ...string) error {
	args = append(args, "--socket", i.socket, "--json")
	text, err := exec.Command(i.program, args...).CombinedOutput()
	for deadline := time.Now().Add(startLimit); err != nil && bytes.Contains(text, []byte("is stopping")) && time.Now().Before(deadline); {
		text, err = exec.Command(i.program, args...).CombinedOutput() // the process before has accepted the connection
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

type upgradeStatus struct {
	PID       int
	Endpoints []struct{ Relay *struct{ Allocations int } }
}

func (i *installation) status() (s upgradeStatus, err error) {
	return s, i.ctl(&s, "ctl", "status")
}

// heldSession is what an upgrade must not change of a session.
type heldSession struct {
	Account, Client, Transport, Relayed string
	Made                                time.Time
	Peers, Channels                     int
}

func (i *installation) sessions(t *testing.T) []heldSession {
	t.Helper()
	var report struct{ Sessions []heldSession }
	if err := i.ctl(&report, "ctl", "sessions"); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(report.Sessions, func(a, b heldSession) int { return strings.Compare(a.Relayed, b.Relayed) })
	return report.Sessions
}

// checkedStream sends numbered packets through a relay to a peer that sends them back.
type checkedStream struct {
	name    string
	client  *turnclient.Client
	every   time.Duration // between two packets
	padding []byte        // of each packet, after its number

	mu            sync.Mutex
	sent          uint64
	back, swapped uint64
	last          time.Time
	longest       time.Duration
	all           chan struct{} // closed when the last packet is back
	end           uint64        // its number, once it is known
}

// beginStream makes an allocation over a network, and binds a channel to peer.
func beginStream(t *testing.T, p ports, network string, c credential, peer net.Addr) *checkedStream {
	t.Helper()
	if network == "dtls" {
		return beginStreamOver(t, network, dialDTLS(t, p), c, peer)
	}
	conn, err := net.Dial(network, fmt.Sprintf("127.0.0.1:%d", p.turn))
	if err != nil {
		t.Fatal(err)
	}
	return beginStreamOver(t, network, conn, c, peer)
}

// beginStreamOver is beginStream with a connection.
func beginStreamOver(t *testing.T, network string, conn net.Conn, c credential, peer net.Addr) *checkedStream {
	t.Helper()
	s := &checkedStream{name: network, every: 5 * time.Millisecond, all: make(chan struct{}), last: time.Now()}
	s.client = turnclient.New(turnclient.Config{Conn: conn, Stream: network == "tcp", Username: c.username, Password: c.password})
	t.Cleanup(func() { s.client.Close() })
	if _, err := s.client.Challenge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Allocate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.client.ChannelBind(t.Context(), 0x4000, peer.(*net.UDPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	s.client.Handle(func(d turnclient.Data) { s.receive(bigendian.BigEndian.Uint64(d.Payload)) })
	return s
}

func (s *checkedStream) receive(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.longest, s.last = max(s.longest, now.Sub(s.last)), now
	if s.back++; n != s.back {
		s.swapped++
	}
	if n == s.end {
		close(s.all)
	}
}

// run sends packets until stop is closed, and waits until the last one is back.
func (s *checkedStream) run(stop <-chan struct{}) {
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for ended := false; !ended; {
		select {
		case <-stop:
			ended = true
		case <-ticker.C:
		}
		s.mu.Lock()
		s.sent++
		n := s.sent
		if ended {
			s.end = n
		}
		s.mu.Unlock()
		_ = s.client.SendChannel(0x4000, append(bigendian.BigEndian.AppendUint64(nil, n), s.padding...))
	}
	select {
	case <-s.all:
	case <-time.After(startLimit):
	}
}

// takeLongest returns the longest time without a packet since the last call.
func (s *checkedStream) takeLongest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	longest := s.longest
	s.longest = 0
	return longest
}

// echoingPeer is a peer that sends everything back.
func echoingPeer(t *testing.T) net.Addr {
	t.Helper()
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var echoing sync.WaitGroup
	echoing.Go(func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := peer.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = peer.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() {
		peer.Close()
		echoing.Wait()
	})
	return peer.LocalAddr()
}

// otherBuild builds another mailturn, which is not the same file.
func otherBuild(t *testing.T) string {
	t.Helper()
	other := filepath.Join(t.TempDir(), "other")
	args := []string{"build", "-buildvcs=false", "-o", other}
	if raceDetector {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "../..")...).CombinedOutput(); err != nil {
		t.Fatalf("build mailturn: %v\n%s", err, out)
	}
	return other
}

// TestUpgrade upgrades mailturn to and fro between two builds during calls over UDP, TCP and DTLS, in all four ways: no packet is lost, no
// call is interrupted for long, and what the relay knows of the calls remains. Mail ports never refuse a connection, and connections to
// them go on until they are told to end.
func TestUpgrade(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("upgrades need Linux")
	}
	builds := []string{binary, otherBuild(t)}
	p, stateDir := freePorts(t), t.TempDir()
	i := newInstallation(t, builds[0], configure(t, p, allowLoopback,
		"upgrade_timeout = \"2s\"\n  max_unauthenticated = 1000\n  max_unauthenticated_network = 10000"))
	first, firstEnded := i.start(t, stateDir)
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	peer := echoingPeer(t)
	var streams []*checkedStream
	for _, network := range []string{"udp", "tcp", "dtls", "udp", "tcp", "dtls"} {
		streams = append(streams, beginStream(t, p, network, alice, peer))
	}
	mail := connect(t, p.imap)
	r := wantGreeting(t, mail)
	refused, stopKnocking := knock(t, p.imap)
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, s := range streams {
		running.Go(func() { s.run(stop) })
	}
	longest := func() (gap time.Duration) {
		for _, s := range streams {
			gap = max(gap, s.takeLongest())
		}
		return gap
	}
	time.Sleep(time.Second) // as long as the upgrades take, to compare
	quiet, gap, interrupted := longest(), time.Duration(0), time.Duration(0)
	before, pid := i.sessions(t), first.Pid
	for n := range upgradeCount {
		i.replace(t, builds[(n+1)%2])
		switch n % 5 {
		case 2:
			i.upgradeBy(t, func() error { return syscall.Kill(pid, syscall.SIGUSR2) })
		case 3:
			i.upgradeBy(t, func() error { return syscall.Kill(pid, syscall.SIGHUP) })
		case 4:
			i.upgradeBy(t, func() error { return i.ctl(nil, "ctl", "reload") })
		default:
			interrupted = max(interrupted, i.upgrade(t))
		}
		status, err := i.status()
		if err != nil {
			t.Fatal(err)
		}
		if i.manager.want(t, "READY"); i.manager.mainProcess() != status.PID {
			t.Fatalf("upgrade %d: the main process is %d, and %d serves", n+1, i.manager.mainProcess(), status.PID)
		}
		if status.PID == pid || status.Endpoints[0].Relay.Allocations != len(streams) {
			t.Fatalf("after upgrade %d: %+v", n+1, status)
		}
		pid = status.PID
		if after := i.sessions(t); !slices.EqualFunc(before, after, sameSession) {
			t.Fatalf("after upgrade %d, the sessions are\n%+v\nwant\n%+v", n+1, after, before)
		}
		gap = max(gap, longest())
	}
	close(stop)
	running.Wait()
	stopKnocking()
	for _, s := range streams {
		if s.back != s.sent || s.swapped > 0 || s.sent < 100 {
			t.Errorf("%s: %d of %d packets came back, %d out of order", s.name, s.back, s.sent, s.swapped)
		}
	}
	t.Logf("longest gap: %v without upgrades, %v with; calls interrupted for up to %v", quiet, gap, interrupted)
	if gap > upgradeGap+2*quiet {
		t.Errorf("a gap of %v, want at most %v", gap, upgradeGap)
	}
	if n := refused(); n > 0 {
		t.Errorf("%d connections to the mail port were refused", n)
	}
	if err := mail.SetReadDeadline(time.Now().Add(startLimit)); err != nil { // that of the greeting has passed
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* BYE") {
		t.Errorf("the mail connection got %q, %v, want a BYE", line, err)
	}
	select {
	case <-firstEnded:
	case <-time.After(stopLimit):
		t.Error("the first process still runs")
	}
	for _, s := range streams {
		if _, err := s.client.Refresh(t.Context(), 0); err != nil {
			t.Error(err)
		}
	}
	if status, err := i.status(); err != nil || status.Endpoints[0].Relay.Allocations != 0 {
		t.Errorf("at the end: %+v, %v", status, err)
	}
}

// TestHangingSuccessor is a program that mailturn starts: see TestFailedUpgrade. It says that it is ready, and nothing else.
func TestHangingSuccessor(t *testing.T) {
	fd, err := strconv.Atoi(os.Getenv("MAILTURN_PREDECESSOR_FD"))
	if err != nil {
		return
	}
	conn, err := handoff.FromDescriptor(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Send(handoff.Message{Kind: "ready"}, time.Now().Add(startLimit)); err != nil {
		t.Fatal(err)
	}
	<-t.Context().Done() // which it does not live to see
}

func sameSession(a, b heldSession) bool {
	made := a.Made.Equal(b.Made)
	a.Made, b.Made = time.Time{}, time.Time{}
	return made && a == b
}

// TestFailedUpgrade installs programs that cannot take over: the running process goes on, with the call that it has.
func TestFailedUpgrade(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("upgrades need Linux")
	}
	p, stateDir := freePorts(t), t.TempDir()
	i := newInstallation(t, binary, configure(t, p, allowLoopback, ""))
	first, _ := i.start(t, stateDir)
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	s := beginStream(t, p, "udp", alice, echoingPeer(t))
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { s.run(stop) })
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "program")
		text = "#!/bin/sh\nreport='{\"version\":\"v9\",\"oldest_state\":1,\"newest_state\":1}'\n" + text
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := os.ReadFile(i.config)
	if err != nil {
		t.Fatal(err)
	}
	withConfig := func(old, with string) func() {
		return func() {
			if err := os.WriteFile(i.config, []byte(strings.Replace(string(good), old, with, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name, program string
		prepare       func()
		want          string
	}{
		{"not a program", script("exit 1"), nil, "cannot take over"},
		{"older than upgrades", script(`echo 'unknown command "takeover"' >&2; exit 2`), nil, `unknown command "takeover"`},
		{"another state", script(`echo '{"oldest_state":1000,"newest_state":1001}'`), nil, "in the versions 1000 to 1001"},
		{"exits", script(`if [ "$1" = takeover ]; then echo "$report"; else exit 3; fi`), nil, "the new process has ended"},
		{"says it has failed", script(`if [ "$1" = takeover ]; then echo "$report"; else exec ` + binary + ` run --config /nonexistent; fi`), nil, "the new process has ended"},
		{"hangs", script(`if [ "$1" = takeover ]; then echo "$report"; else exec ` + os.Args[0] + ` -test.run='^TestHangingSuccessor$'; fi`), nil,
			"was not done after"},
		{"hangs early", script(`if [ "$1" = takeover ]; then echo '{"oldest_state":1,"newest_state":1,"reads_usage":true}'; else exec ` + os.Args[0] +
			` -test.run='^TestHangingSuccessor$'; fi`), nil, "was not informed after"},
		{"wrong configuration", binary, withConfig("relay_ip ", "relay_pi "), "relay_pi"},
		{"another port", binary, withConfig(fmt.Sprintf(`"udp://127.0.0.1:%d", `, p.turn), ""), "no longer in the configuration"},
		{"another range", binary, withConfig("49152-65535", "2000-2010"), "not one that the configuration allows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.prepare != nil {
				tt.prepare()
				defer withConfig("", "")()
			}
			i.replace(t, tt.program)
			text, err := exec.Command(binary, "upgrade", "--socket", i.socket).CombinedOutput()
			if err == nil || !strings.Contains(string(text), tt.want) || !strings.Contains(string(text), "the running process continues") {
				t.Errorf("got %v and\n%s\nwant %q", err, text, tt.want)
			}
			i.replace(t, binary)
			if status, err := i.status(); err != nil || status.PID != first.Pid || status.Endpoints[0].Relay.Allocations != 1 {
				t.Errorf("afterwards: %+v, %v", status, err)
			}
		})
	}
	close(stop)
	running.Wait()
	if s.back != s.sent || s.swapped > 0 {
		t.Errorf("%d of %d packets came back, %d out of order", s.back, s.sent, s.swapped)
	}
	t.Logf("longest gap %v", s.longest)
	if err := i.ctl(nil, "upgrade"); err != nil { // in the end, the right program
		t.Error(err)
	}
}
