package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// goLimit is how long a command may take that may have to build programs first.
const goLimit = 5 * time.Minute

// inRepository runs a block's command from the directory that it is meant for, or another one, and returns what it writes.
func inRepository(t *testing.T, dir, command string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), goLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-ec", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MAILTURN_INTEROP=") // this run's cells are not theirs
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const repository = "../../../.."

// tryIt starts mailturn as a newcomer does, in a separate network, and pastes the checks that it prints into a second terminal.
func tryIt(t *testing.T, _ documents, b recipe.Block) {
	peer(t, "openssl", "openssl")
	peer(t, "turnutils_uclient", "coturn")
	here := newNetwork(t).server
	// go run builds too, which on a busy machine takes longer than a start may.
	if out, err := inRepository(t, repository, "go build -o "+filepath.Join(t.TempDir(), "mailturn")+" ./cmd/mailturn"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	state := t.TempDir()
	terminal := func(command string) *exec.Cmd {
		cmd := here.command("bash", "-ec", command)
		cmd.Dir, cmd.Env = repository, append(os.Environ(), "STATE_DIRECTORY="+state)
		return cmd
	}
	first := terminal("exec " + b.Text)
	first.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s := &server{cmd: first, stdout: &lines{}, stderr: &lines{}}
	first.Stdout, first.Stderr = s.stdout, s.stderr
	var err error
	if s.exited, err = daemon.Run(first); err != nil {
		t.Fatal(err)
	}
	controlC := func() { syscall.Kill(-first.Process.Pid, syscall.SIGINT) } // to the whole group: go run passes nothing on
	t.Cleanup(func() {
		controlC()
		<-s.exited
	})
	s.waitFor(t, s.stdout, "Ctrl-C")
	for start, want := range map[string]string{
		"go run ": "OK  A call would connect.", "printf ": "* METADATA \"\" (/shared/vendor/deltachat/turn ", "turnutils_uclient ": "Total lost packets 0 ",
	} {
		command := printed(t, s.stdout.String(), start)
		if out, err := terminal(command).CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, without %q\n%s", command, err, want, out)
		}
	}
	if out, err := terminal(b.Text).CombinedOutput(); err == nil || !strings.Contains(string(out), "address already in use") {
		t.Errorf("a second one: %v\n%s", err, out)
	}
	controlC()
	s.waitFor(t, s.stderr, "msg=stopped")
	worked(t, b, "Go "+goVersion(t), "a start without a configuration, and the three checks that it prints", "while the ports are taken")
}

// goVersion is the version of the commands that the documentation runs.
func goVersion(t *testing.T) string {
	t.Helper()
	return programVersion(t, peer(t, "go", "golang"), "version")
}

// raceModule has a test that passes only without the race detector.
const raceModule = `package race

import "testing"

func TestRace(t *testing.T) {
	n, done := 0, make(chan bool)
	go func() { n++; close(done) }()
	n++
	<-done
}
`

// buildAndTest runs the commands, of which the tests are those of two packages only: .ci/run runs the last one as it stands. Then a
// module with a race has to fail the last one.
func buildAndTest(t *testing.T, _ documents, b recipe.Block) {
	peer(t, "gcc", "gcc libc6-dev")
	text := replaced(t, b, "./imapext/... ./turnsrv/...", "./imapext/metadata ./turnsrv/credential", "-timeout 45m ./...", "-timeout 45m ./imapext/metadata")
	out, err := inRepository(t, repository, strings.Replace(text, "go build", "go build -o "+filepath.Join(t.TempDir(), "mailturn"), 1))
	if err != nil || strings.Count(out, "ok ") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(b.Text), "\n")
	wantRaceFound(t, lines[len(lines)-1])
	worked(t, b, "Go "+goVersion(t), "build, and tests of some packages; .ci/run runs the last line as it stands", "a data race")
}

// wantRaceFound runs a test command in a module with a data race, which has to fail it.
func wantRaceFound(t *testing.T, command string) {
	t.Helper()
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"go.mod": "module race\n", "race_test.go": raceModule})
	if out, err := inRepository(t, dir, command); err == nil || !strings.Contains(out, "DATA RACE") {
		t.Errorf("in a module with a race: %v\n%s", err, out)
	}
}

func testIt(t *testing.T, _ documents, b recipe.Block) {
	peer(t, "gcc", "gcc libc6-dev")
	out, err := inRepository(t, repository, replaced(t, b, "-timeout 45m ./...", "-timeout 45m ./imapext/metadata"))
	if err != nil || strings.Count(out, "ok ") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	wantRaceFound(t, strings.TrimSpace(b.Text))
	worked(t, b, "Go "+goVersion(t), "tests of one package; .ci/run runs the line as it stands", "a data race")
}

// writeFiles makes files that may be executed, and the directories that they are in.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// runItself has bash read the script, which cannot be run by a test that it runs.
func runItself(t *testing.T, _ documents, b recipe.Block) {
	script := filepath.Join(repository, strings.TrimSpace(b.Text))
	info, err := os.Stat(script)
	if err != nil || info.Mode()&0o111 == 0 {
		t.Fatalf("%s cannot be executed: %v", script, err)
	}
	if out, err := exec.Command("bash", "-n", script).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("bash", "-nc", strings.Replace(string(text), "\ndone", "\n", 1)).Run(); err == nil {
		t.Error("bash does not notice that a loop has no end")
	}
	worked(t, b, "bash "+programVersion(t, "bash", "--version"), "not run: it is what runs this test; it can be executed, and bash parses it", "a loop without an end")
}

// seeATestFail follows the commands in a separate repository, whose last commit has a fix and its test.
func seeATestFail(t *testing.T, _ documents, b recipe.Block) {
	version := "git " + programVersion(t, peer(t, "git", "git"), "--version")
	newRepository := func() (dir string) {
		t.Helper()
		dir = t.TempDir()
		const commit = "\ngit add .\ngit -c user.name=x -c user.email=x commit -qm x\n"
		writeFiles(t, dir, map[string]string{"go.mod": "module small\n", "turnsrv/two.go": "package turnsrv\n\nfunc two() int { return 1 }\n"})
		if out, err := inRepository(t, dir, "git init -q"+commit); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		writeFiles(t, dir, map[string]string{
			"turnsrv/two.go":      "package turnsrv\n\nfunc two() int { return 2 }\n",
			"turnsrv/two_test.go": "package turnsrv\n\nimport \"testing\"\n\nfunc TestT20Two(t *testing.T) {\n\tif two() != 2 {\n\t\tt.Fail()\n\t}\n}\n",
		})
		if out, err := inRepository(t, dir, commit); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return dir
	}
	const red = "--- FAIL: TestT20Two"
	dir := newRepository()
	if out, err := inRepository(t, dir, "set +e\n"+b.Text); err != nil || !strings.Contains(out, red) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := inRepository(t, dir, "git status --short\ngo test ./..."); err != nil || !strings.HasPrefix(out, "ok ") {
		t.Errorf("afterwards: %v\n%s", err, out)
	}
	if out, _ := inRepository(t, newRepository(), "set +e\n"+without(t, b.Text, "git show")); strings.Contains(out, red) {
		t.Errorf("the test fails with the fix in place:\n%s", out)
	}
	worked(t, b, version, "a test that is red without its fix, in a small repository", "the fix in place")
}

// soakBriefly shortens the hour, and then leaves the relay too few descriptors.
func soakBriefly(t *testing.T, _ documents, b recipe.Block) {
	brief := strings.TrimSpace(replaced(t, b, "-duration 1h", "-duration 5s")) + " -clients 50 -lifetime 5s"
	if out, err := inRepository(t, repository, brief); err != nil || !strings.Contains(out, " messages sent, ") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := inRepository(t, repository, "ulimit -n 100\n"+brief); err == nil || !tooFew.MatchString(out) {
		t.Errorf("with 100 descriptors: %v\n%s", err, out)
	}
	worked(t, b, "Go "+goVersion(t), "50 clients for five seconds", "too few descriptors")
}

// tooFew is the error of a client or relay that has no descriptors left.
var tooFew = regexp.MustCompile(`too many open files|508 Insufficient Capacity`)

// benchBriefly runs a benchmark only to see that it works, and then without the server that it is compared with.
func benchBriefly(flags, beside string, peers map[string]string) func(t *testing.T, d documents, b recipe.Block) {
	return func(t *testing.T, _ documents, b recipe.Block) {
		for program, debianPackage := range peers {
			peer(t, program, debianPackage)
		}
		goTool := peer(t, "go", "golang")
		command := strings.TrimSpace(b.Text) + " " + flags
		if out, err := inRepository(t, repository, command); err != nil || !strings.Contains(out, "x: beside "+beside) {
			t.Errorf("%v\n%s", err, out)
		}
		if out, err := inRepository(t, repository, "PATH="+filepath.Dir(goTool)+"\n"+command); err == nil || !strings.Contains(out, "executable file not found") {
			t.Errorf("without the servers: %v\n%s", err, out)
		}
		worked(t, b, "Go "+goVersion(t), "figures beside "+beside+", of a brief run", "without the other servers")
	}
}

// matrixTest records one cell, and fails if it is told to.
const matrixTest = `package e2e

import (
	"os"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

func TestOne(t *testing.T) {
	if os.Getenv("FAIL") != "" {
		t.Fatal("as told")
	}
	interop.Record(t, interop.Cell{Kind: interop.Server, Name: "a server", Version: "1", How: "asked", Control: "nobody asks"})
}
`

// writeMatrix runs the script in a repository with one test, and another test in a separate module.
func writeMatrix(t *testing.T, _ documents, b recipe.Block) {
	dir := t.TempDir()
	const module, e2e = "module github.com/mailturn/mailturn\n\ngo 1.26\n", "cmd/mailturn/internal/e2e/"
	files := map[string]string{
		"go.mod": module, e2e + "one_test.go": matrixTest, "docs/interop.md": "",
		e2e + "nested/go.mod": "module nested\n", e2e + "nested/nested_test.go": "package nested\n\nimport \"testing\"\n\nfunc Test(t *testing.T) {}\n",
	}
	for _, pattern := range []string{".ci/matrix", ".ci/test", e2e + "matrix/*.go", e2e + "interop/*.go"} {
		paths, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if name := strings.TrimPrefix(path, repository+"/"); !strings.HasSuffix(name, "_test.go") {
				files[name] = string(text)
			}
		}
	}
	writeFiles(t, dir, files)
	written := func() string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "docs/interop.md"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if out, err := inRepository(t, dir, "export FAIL=1\n"+b.Text); err == nil || written() != "" {
		t.Errorf("with a test that fails: %v, and the file is\n%s\n%s", err, written(), out)
	}
	want := interop.Render([]interop.Cell{{Kind: interop.Server, Name: "a server", Version: "1", How: "asked", Control: "nobody asks"}})
	if out, err := inRepository(t, dir, b.Text); err != nil || written() != want {
		t.Errorf("%v\n%s\nthe file is\n%s", err, out, written())
	}
	worked(t, b, "bash "+programVersion(t, "bash", "--version"), "the file, from the tests of a small repository", "a test that fails")
}
