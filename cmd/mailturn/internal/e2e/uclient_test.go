package e2e

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
)

// uclientLimit is the maximum duration of one run of coturn's client, which waits for some seconds whatever the server does.
const uclientLimit = 60 * time.Second

// uclientProgram is coturn's turnutils_uclient of one Debian release.
type uclientProgram struct {
	name    string       // in docs/interop.md
	version string       // of coturn
	root    *chroot.Root // nil is this machine's
}

// hostUclient is that of this machine.
func hostUclient(t *testing.T) uclientProgram {
	t.Helper()
	peer(t, "turnutils_uclient", "coturn")
	return uclientProgram{name: "coturn's turnutils_uclient of Debian 12"}
}

// eachUclient runs a test with the two versions in use: that of Debian 12, and the newest, which is in a separate root directory.
func eachUclient(t *testing.T, test func(t *testing.T, program uclientProgram)) {
	t.Run("Debian 12", func(t *testing.T) {
		t.Parallel()
		program := hostUclient(t)
		program.version = programVersion(t, peer(t, "turnserver", "coturn"), "--version")
		test(t, program)
	})
	t.Run("Debian testing", func(t *testing.T) {
		t.Parallel()
		root, err := chroot.Open("testing")
		if err != nil {
			lacks(t, "%v", err)
		}
		program := uclientProgram{name: "coturn's turnutils_uclient of Debian testing", root: root}
		version := program.command(t, t.Context(), "turnserver", "--version")
		program.version = programVersion(t, version.Path, version.Args[1:]...)
		test(t, program)
	})
}

// command runs a program of coturn until ctx ends.
func (p uclientProgram) command(t *testing.T, ctx context.Context, program string, args ...string) *exec.Cmd {
	t.Helper()
	if p.root == nil {
		return exec.CommandContext(ctx, program, args...)
	}
	cmd, err := p.root.Command(nil, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
}

// uclientRun is a run of the client.
type uclientRun struct {
	cmd    *exec.Cmd
	output *bytes.Buffer
	ctx    context.Context
	cancel context.CancelFunc
}

// start runs the client with a credential against the port of the server, for as long as the test runs.
func (p uclientProgram) start(t *testing.T, c credential, port int, options ...string) uclientRun {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), uclientLimit)
	args := append(options, "-u", c.username, "-w", c.password, "-p", strconv.Itoa(port), c.host)
	r := uclientRun{p.command(t, ctx, "turnutils_uclient", args...), new(bytes.Buffer), ctx, cancel}
	r.cmd.Stdout, r.cmd.Stderr = r.output, r.output
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// finish waits for the client to end, and returns what it wrote. Its exit status says nothing.
func (r uclientRun) finish(t *testing.T) (output string) {
	t.Helper()
	defer r.cancel()
	_ = r.cmd.Wait()
	if r.ctx.Err() != nil {
		t.Fatalf("%s did not end in %v:\n%s", strings.Join(r.cmd.Args, " "), uclientLimit, r.output)
	}
	return r.output.String()
}

// wait returns what the client counted once it has ended. One that gave up before has counted nothing.
func (r uclientRun) wait(t *testing.T) totals {
	t.Helper()
	result := totals{output: r.finish(t)}
	if m := totalLine.FindStringSubmatch(result.output); m != nil {
		result.sent, _ = strconv.Atoi(m[1])
		result.received, _ = strconv.Atoi(m[2])
	} else if r.cmd.ProcessState.Success() {
		t.Fatalf("turnutils_uclient printed no totals:\n%s", result.output)
	}
	return result
}

// uclient runs this machine's client with a credential against the port of the server.
//
// A test that goes on after a subtest has called it, or calls it on another goroutine, has to look for the client itself: it
// would not be skipped with that.
func uclient(t *testing.T, c credential, port int, options ...string) totals {
	t.Helper()
	return hostUclient(t).start(t, c, port, options...).wait(t)
}

// totals are what turnutils_uclient counted.
type totals struct {
	sent, received int
	output         string
}

var totalLine = regexp.MustCompile(`start_mclient: tot_send_msgs=(\d+), tot_recv_msgs=(\d+)\n`)

// wantAll checks that all of n messages were sent and came back.
func (r totals) wantAll(t *testing.T, n int) {
	t.Helper()
	if r.sent != n || r.received != n {
		t.Errorf("sent %d and received %d messages, want %d of each:\n%s", r.sent, r.received, n, r.output)
	}
}

// wantAllBack checks that something was sent, and that all of it came back.
func (r totals) wantAllBack(t *testing.T) {
	t.Helper()
	r.wantAll(t, max(r.sent, 1))
}

// wantNone checks that nothing came back, and that the client says why.
func (r totals) wantNone(t *testing.T, reason string) {
	t.Helper()
	if r.received != 0 {
		t.Errorf("received %d messages, want none:\n%s", r.received, r.output)
	}
	if !strings.Contains(r.output, reason) {
		t.Errorf("turnutils_uclient did not say %q:\n%s", reason, r.output)
	}
}
