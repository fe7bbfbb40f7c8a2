package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// agentScript is a script of testdata in Python that is one end of one connection of ICE, and talks in lines of JSON.
type agentScript struct {
	name string
	dies bool // when its allocation is refused; others go on without a candidate
}

// agent is such a script that runs.
type agent struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output *bufio.Reader
	stderr *lines
}

func (s agentScript) start(t *testing.T, ns namespace, env []string, role string, server agentServer, count int) *agent {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", s.name))
	if err != nil {
		t.Fatal(err)
	}
	cmd := ns.command(systemPython, path, role, server.host, server.port, server.transport, server.username, server.password, strconv.Itoa(count))
	a := &agent{cmd: cmd, stderr: &lines{}}
	a.cmd.Env = append(os.Environ(), env...)
	a.cmd.Stderr = a.stderr
	if a.input, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.output = bufio.NewReader(stdout)
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(agentLimit, func() { a.cmd.Process.Kill() })
	t.Cleanup(func() {
		limit.Stop()
		a.cmd.Process.Kill()
		a.cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", s.name, a.stderr)
		}
	})
	return a
}

// line reads one line.
func (a *agent) line(t *testing.T) string {
	t.Helper()
	line, err := a.output.ReadString('\n')
	if err != nil {
		t.Fatalf("%v: no line within %v (%v):\n%s", a.cmd.Args[4:], agentLimit, err, a.stderr)
	}
	return line
}

func (s agentScript) connect(t *testing.T, namespaces []namespace, env []string, servers []agentServer, count int) (results []connected) {
	t.Helper()
	var agents []*agent
	for i, ns := range namespaces {
		agents = append(agents, s.start(t, ns, env, []string{"controlling", "controlled"}[i], servers[i], count))
	}
	io.WriteString(agents[1].input, agents[0].line(t))
	io.WriteString(agents[0].input, agents[1].line(t))
	for _, a := range agents {
		var c connected
		if err := json.Unmarshal([]byte(a.line(t)), &c); err != nil {
			t.Fatal(err)
		}
		results = append(results, c)
	}
	for _, a := range agents {
		a.input.Close()
	}
	return results
}

func (s agentScript) describe(t *testing.T, ns namespace, env []string, server agentServer) (sdp, wrote string) {
	t.Helper()
	a := s.start(t, ns, env, "controlling", server, 1)
	sdp, err := a.output.ReadString('\n')
	if !s.dies && !strings.Contains(sdp, "a=ice-ufrag") {
		t.Errorf("%s did not describe itself (%v): %s", s.name, err, sdp)
	}
	a.input.Close()
	a.cmd.Wait()
	return sdp, a.stderr.String()
}
