package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/framework/module"
)

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// served is a setup that serve runs.
type served struct {
	dir, file string
	socket    string
	log       *lockedBuffer
}

const controlled = `
hostname = "localhost"
endpoint "turn" "turn" {
  listen      = ["udp://127.0.0.1:0"]
  realm       = "example.org"
  relay_ip    = "127.0.0.1"
  relay_ports = "62000-64999"
}
`

// run serves a configuration until the test ends.
func run(t *testing.T, configuration string) served {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("RUNTIME_DIRECTORY", "")
	s := served{dir: dir, file: filepath.Join(dir, "maddy.conf"), socket: filepath.Join(dir, controlSocket), log: new(lockedBuffer)}
	s.start(t, configuration)
	return s
}

// start serves a configuration until the test ends or stop is called.
func (s served) start(t *testing.T, configuration string) (stop func()) {
	t.Helper()
	s.write(t, configuration)
	again := func(diagnostics io.Writer) (*setup, error) { return load(s.file, s.dir, diagnostics) }
	setup, err := again(s.log)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.log)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- setup.serve(ctx, s.log, func() { close(ready) }, again, nil) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("%v\n%s", err, s.log)
	}
	return stop
}

func (s served) write(t *testing.T, configuration string) {
	t.Helper()
	if err := os.WriteFile(s.file, fmt.Appendf(nil, "state_dir = %q%s", s.dir, configuration), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ctl runs mailturn ctl and returns its exit status, with what it prints.
func (s served) ctl(args ...string) (status int, printed string) {
	var output bytes.Buffer
	status = execute(append([]string{"ctl", "--socket", s.socket}, args...), strings.NewReader(""), &output, &output)
	return status, output.String()
}

// want runs mailturn ctl and wants the exit status and the text.
func (s served) want(t *testing.T, status int, text string, args ...string) {
	t.Helper()
	if got, printed := s.ctl(args...); got != status || !strings.Contains(printed, text) {
		t.Errorf("mailturn ctl %s: exit status %d, want %d; it prints\n%s\nwant\n%s", strings.Join(args, " "), got, status, printed, text)
	}
}

// logged wants a line of the log, with who made a change.
func (s served) logged(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, text) && strings.Contains(line, fmt.Sprintf("uid %d, pid %d)", os.Geteuid(), os.Getpid())) {
			return
		}
	}
	t.Errorf("no line of the log has %q with who made the change:\n%s", text, s.log)
}

func TestCtlStatus(t *testing.T) {
	s := run(t, controlled)
	s.want(t, 0, fmt.Sprintf("serving, pid %d", os.Getpid()), "status")
	s.want(t, 0, "turn turn: 0 allocations", "status")
	s.want(t, 0, ", kernel path ", "status") // in use, or why not
	s.want(t, 0, `"kernel_path": `, "status", "--json")
	s.want(t, 0, `"state": "serving"`, "status", "--json")
	s.want(t, 0, "serving", "status", "--check")
	s.want(t, exitFailure, "there is no control socket /no/socket: is mailturn running?", "status", "--socket", "/no/socket")
	s.want(t, 0, "turn turn", "status", "--socket", "", "--config", s.file, "--json=false")
}

func TestCtlReload(t *testing.T) {
	s := run(t, controlled)
	s.write(t, controlled+`http {`)
	s.want(t, exitFailure, "Unclosed configuration block", "reload")
	s.want(t, 0, "not reloaded:  it has errors, see the log", "status")
	s.write(t, strings.Replace(controlled, "example.org", "example.com", 1))
	s.want(t, exitFailure, `endpoint turn "turn": a change of realm requires a restart`, "reload")
	s.want(t, exitFailure, "Not applied:\n  endpoint turn \"turn\": realm\n", "reload")
	s.write(t, controlled+"control {\n  enable = false\n}\n")
	s.want(t, exitFailure, "a change of control.enable requires a restart", "reload")
	s.write(t, controlled)
	s.want(t, 0, "Reloaded. The configuration is the same; the files that it names were read again.\n", "reload")
	s.write(t, strings.Replace(controlled, "\n}", "\n  user_quota = 4\n  peers {\n    deny = [\"198.51.100.0/24\"]\n  }\n}", 1)+"log {\n  level = \"warn\"\n}\n")
	s.want(t, 0, "Reloaded. Applied:\n  log.level\n  endpoint turn \"turn\": user_quota\n  endpoint turn \"turn\": peers.deny\n", "reload")
	s.want(t, 0, `"applied": []`, "reload", "--json")
	s.logged(t, "reload requested")
}

func TestCtlLogLevel(t *testing.T) {
	s := run(t, controlled)
	s.want(t, 0, `Log level of endpoint turn "turn": debug until`, "log-level", "debug", "--endpoint", "turn", "--for", "1h")
	s.logged(t, "log level changed")
	s.want(t, 0, "log level debug until", "status")
	s.want(t, 0, `Log level of endpoint turn "turn": default.`, "log-level", "default")
	s.want(t, exitFailure, `log level "loud": want debug`, "log-level", "loud")
	s.want(t, exitFailure, `there is no endpoint "imap"`, "log-level", "debug", "--endpoint", "imap")
	s.want(t, exitFailure, `duration "25h0m0s": want one of at most 24h0m0s`, "log-level", "debug", "--for", "25h")
	s.want(t, exitUsage, "LEVEL is missing", "log-level")
	if _, printed := s.ctl("status"); strings.Contains(printed, "log level") {
		t.Errorf("the level is still set:\n%s", printed)
	}
}

func TestCtlCredentials(t *testing.T) {
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	s := run(t, strings.Replace(controlled, "127.0.0.1:0", free.LocalAddr().String(), 1))
	s.want(t, 0, "username ", "credentials")
	s.want(t, 0, `"turn:localhost:`, "credentials", "alice@example.org", "--json")
	s.want(t, 0, "username ", "credentials", "al ice\x1b[31m\n@example.org")
	s.logged(t, `account="al ice\x1b[31m\n@example.org"`)
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "credential issued") && strings.Contains(line, "password") {
			t.Errorf("the log has a password: %s", line)
		}
	}
}

// TestCtlWithoutDirectory wants a server whose default socket cannot be made to serve, and one whose configured socket cannot be
// made to fail.
func TestCtlWithoutDirectory(t *testing.T) {
	s := run(t, controlled)
	t.Setenv("RUNTIME_DIRECTORY", s.dir+"/absent")
	other := served{dir: s.dir, file: s.file, log: new(lockedBuffer)}
	other.start(t, controlled)
	if !strings.Contains(other.log.String(), "no control socket: its directory does not exist") {
		t.Errorf("the log does not say so:\n%s", other.log)
	}
	t.Setenv("RUNTIME_DIRECTORY", s.dir)
	third := served{dir: s.dir, file: s.file, log: new(lockedBuffer)}
	third.start(t, controlled)
	if !strings.Contains(third.log.String(), "another process is listening there") {
		t.Errorf("the log does not say so:\n%s", third.log)
	}
	s.want(t, 0, "serving", "status")

	s.write(t, controlled+"control {\n  path = \"absent/control.socket\"\n}\n")
	setup, err := load(s.file, s.dir, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := setup.serve(t.Context(), io.Discard, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "maddy.conf:10") || !strings.Contains(err.Error(), "create the directory") {
		t.Errorf("got %v", err)
	}
}

// TestControlStopping wants a request that comes when nobody takes requests any more to be told so.
func TestControlStopping(t *testing.T) {
	o := newOperators(&service{})
	close(o.stopped)
	err := o.do(t.Context(), func() { t.Error("called") })
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Status != http.StatusServiceUnavailable {
		t.Errorf("got %v", err)
	}
}

// TestControlHandedOver wants changes that would be lost to be refused after another process has taken over.
func TestControlHandedOver(t *testing.T) {
	service := &service{running: map[string]module.Endpoint{`endpoint turn "a"`: new(turn.Endpoint)}, logger: slog.New(slog.DiscardHandler), alternates: issuer.NewAlternates()}
	t.Cleanup(service.look.stop)
	service.names.Store(new(issuer.AccountNames))
	service.bans.load(t.TempDir(), service.logger)
	kept := banReport{Account: "kept", Until: time.Now().Add(time.Hour)}
	if _, err := service.bans.add(kept); err != nil {
		t.Fatal(err)
	}
	o := newOperators(service)
	close(o.stopped)
	for _, request := range []struct{ method, path, body string }{
		{http.MethodPost, "/v1/bans", `{"account": "alice"}`},
		{http.MethodDelete, "/v1/bans", `{"account": "kept"}`},
		{http.MethodPut, "/v1/draining", `{"draining": true}`},
	} {
		answer := httptest.NewRecorder()
		o.handler().ServeHTTP(answer, httptest.NewRequest(request.method, request.path, strings.NewReader(request.body)))
		if answer.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %s: %d %s", request.method, request.path, answer.Code, answer.Body)
		}
	}
	if bans := service.bans.current(); len(bans) != 1 || bans[0].Account != "kept" || service.draining.Load() {
		t.Errorf("draining %v, bans %+v", service.draining.Load(), bans)
	}
}

func TestDecodeControl(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", "")
	long := "/" + strings.Repeat("directory/", 20)
	for _, tt := range []struct{ name, block, stateDir, path, want string }{
		{"default", "", "/var/lib/mailturn", "/var/lib/mailturn/control.socket", ""},
		{"long default", "", long, long + "control.socket", ""},
		{"long path", "control {\n path = \"" + long + "\"\n}", "/s", "", "Socket path is too long"},
		{"disabled", "control {\n enable = false\n group = \"nobody-has-this\"\n}", "/s", "", ""},
		{"unknown group", "control {\n group = \"nobody-has-this\"\n}", "/s", "", "Unknown group"},
		{"for everybody", "control {\n mode = \"0666\"\n}", "/s", "/s/control.socket", "Everybody on this machine can connect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file, diags := config.Parse("maddy.conf", []byte(controlled+tt.block))
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			s, diags := decode(file, tt.stateDir)
			var got string
			for _, diag := range diags {
				if strings.HasPrefix(diag.Summary, "Socket") || strings.HasPrefix(diag.Summary, "Unknown") || strings.HasPrefix(diag.Summary, "Everybody") {
					got = diag.Summary
				}
			}
			if got != tt.want || tt.path != "" && s.controlAt.Path != tt.path {
				t.Errorf("got %q and path %s, want %q and %s", got, s.controlAt.Path, tt.want, tt.path)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"alice@example.org": "alice@example.org", "a b": "a b", "ä€": "ä€", "\x1b[31m": `\x1b[31m`, "a\nb\t": `a\nb\t`,
		"\xff": `\xff`, "\u202e": `\u202e`, `\`: `\`, "": "",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	for in, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_999: "1.0 MB", 1 << 63: "9.2 EB"} {
		if got := byteCount(in); got != want {
			t.Errorf("%d: got %s, want %s", in, got, want)
		}
	}
}

// TestCtlDrain wants new calls refused, /readyz to know, and both to end.
func TestCtlDrain(t *testing.T) {
	s := run(t, controlled)
	s.want(t, 0, "New calls are refused. Running allocations: 0.", "drain")
	s.logged(t, "draining changed")
	s.want(t, 0, "draining, pid", "status")
	s.want(t, 0, "New calls are accepted.", "drain", "--off")
	s.want(t, 0, "serving, pid", "status")

	var report drainReport
	err := control.Client{Path: s.socket}.Call(t.Context(), http.MethodPut, "/v1/draining", struct{}{}, &report)
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Status != http.StatusBadRequest {
		t.Errorf("got %v", err)
	}
}

// TestMemberOf checks that only a group that the process may use is chosen.
func TestMemberOf(t *testing.T) {
	own, err := user.LookupGroupId(strconv.Itoa(os.Getegid()))
	if err != nil {
		t.Fatal(err)
	}
	if got := memberOf(own.Name); got != os.Getegid() {
		t.Errorf("the own group %s: got %d, want %d", own.Name, got, os.Getegid())
	}
	if got := memberOf("no-such-group"); got != -1 {
		t.Errorf("no group: got %d, want -1", got)
	}
}
