package socket

import (
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/module/moduletest"
)

// testConfig is a socket in a directory of the test.
func testConfig(t *testing.T) Config {
	t.Helper()
	return Config{Path: filepath.Join(moduletest.SocketDir(t), "s"), Mode: 0o600, UID: -1, GID: -1}
}

// serve listens and says hello to each client, until the listener is closed.
func serve(t *testing.T, c Config) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		listen.Serve(l, slog.New(slog.DiscardHandler), func(conn net.Conn) {
			io.WriteString(conn, "hello")
			conn.Close()
		})
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l
}

func wantHello(t *testing.T, path string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestListen(t *testing.T) {
	c := testConfig(t)
	l := serve(t, c)
	wantHello(t, c.Path)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(c.Path); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
}

// TestStale leaves a socket as a killed process does, and checks that Listen replaces it.
func TestStale(t *testing.T) {
	c := testConfig(t)
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.Path})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	serve(t, c)
	wantHello(t, c.Path)
}

func TestLiveSocketStays(t *testing.T) {
	c := testConfig(t)
	serve(t, c)
	if l, err := Listen(t.Context(), c); err == nil {
		l.Close()
		t.Fatal("the socket of another was taken")
	} else if !strings.Contains(err.Error(), "another process is listening there") || !strings.Contains(err.Error(), c.Path) {
		t.Error(err)
	}
	wantHello(t, c.Path)
}

func TestFileStays(t *testing.T) {
	c := testConfig(t)
	if err := os.WriteFile(c.Path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), c); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Error(err)
	}
	if text, _ := os.ReadFile(c.Path); string(text) != "precious" {
		t.Errorf("the file now holds %q", text)
	}
}

// TestCloseLeavesAnother checks that Close does not remove a socket that has replaced ours.
func TestCloseLeavesAnother(t *testing.T) {
	c := testConfig(t)
	l := serve(t, c)
	if err := os.Rename(c.Path, c.Path+".old"); err != nil {
		t.Fatal(err)
	}
	serve(t, c)
	l.Close()
	wantHello(t, c.Path)
}

func TestPermissions(t *testing.T) {
	c := testConfig(t)
	c.Mode, c.GID = 0o660, os.Getgid()
	l := serve(t, c)
	check := func(want fs.FileMode) {
		t.Helper()
		info, err := os.Lstat(c.Path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("got %v, %v, want %v", info.Mode().Perm(), err, want)
		}
	}
	check(0o660)
	c.Mode = 0o600
	same, undo, err := l.Prepare(t.Context(), c)
	if err != nil || same != l {
		t.Fatalf("got %v, %v, want the listener that there is", same, err)
	}
	check(0o600)
	wantHello(t, c.Path)
	undo()
	check(0o660)
}

// TestNobodyConnectsTooEarly checks that nobody else can connect between bind and the change of owner and mode.
func TestNobodyConnectsTooEarly(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems have the umask alone")
	}
	defer syscall.Umask(syscall.Umask(0))
	c := testConfig(t)
	l, err := bind(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(c.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want 0600 whatever the umask", info.Mode(), err)
	}
}

// TestSymbolicLinkIsNotFollowed replaces the socket that was just created with a link to a file elsewhere.
func TestSymbolicLinkIsNotFollowed(t *testing.T) {
	c := testConfig(t)
	elsewhere := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(elsewhere, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, c.Path); err != nil {
		t.Fatal(err)
	}
	c.Mode = 0o666
	if err := permit(c); err == nil {
		t.Error("got no error")
	}
	if info, err := os.Stat(elsewhere); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file elsewhere has %v, %v", info.Mode(), err)
	}
	if _, err := Listen(t.Context(), c); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v, want an error that leaves the link", err)
	}
}

// TestPrepareMakesTheSocketAgain checks that Prepare creates a socket that somebody has removed.
func TestPrepareMakesTheSocketAgain(t *testing.T) {
	c := testConfig(t)
	l := serve(t, c)
	if err := os.Remove(c.Path); err != nil {
		t.Fatal(err)
	}
	again, _, err := l.Prepare(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if again == l {
		t.Fatal("Prepare returns the listener whose socket was removed")
	}
	l.Close()
	if _, err := os.Lstat(c.Path); err != nil {
		t.Errorf("closing the old listener removed the new socket: %v", err)
	}
	again.Close()
}

// TestErrorsSayWhatToDo checks that errors have the place, the path once, and advice.
func TestErrorsSayWhatToDo(t *testing.T) {
	absent := testConfig(t)
	absent.Path += "/x/y"
	foreign := testConfig(t)
	cause := &fs.PathError{Op: "lchown", Path: foreign.Path, Err: syscall.EACCES}
	_, err := Listen(t.Context(), Config{Path: absent.Path, Range: hcl.Range{Filename: "maddy.conf", Start: hcl.Pos{Line: 7}}})
	for _, tt := range []struct {
		err  error
		want string
	}{
		{err, "listen on " + absent.Path + " (maddy.conf:7): bind: no such file or directory: create the directory, "},
		{failure("listen on", foreign, cause), "listen on " + foreign.Path + ": permission denied: the directory must be writable"},
	} {
		if tt.err == nil || !strings.HasPrefix(tt.err.Error(), tt.want) {
			t.Errorf("got  %v\nwant %s…", tt.err, tt.want)
		}
	}
}

func TestDecode(t *testing.T) {
	long := "/" + strings.Repeat("x", 200)
	for _, tt := range []struct {
		body string
		want string // a part of the diagnostic, empty for none
	}{
		{`path = "/run/mailturn/turn.socket"`, ""},
		{`path = "/run/x"
mode = 0600`, ""},
		{`path = "/run/x"
mode = "0660"
owner = "root"
group = 0`, ""},
		{``, "Socket path is missing"},
		{`path = ""`, "Socket path is empty"},
		{`path = "` + long + `"`, "has 201 bytes; the system allows"},
		{`path = "/run/x"
mode = "rw"`, `mode is "rw": want octal digits`},
		{`path = "/run/x"
mode = 1777`, "Not a file mode"},
		{`path = "/run/x"
mode = 0440`, "Nobody could connect"},
		{`path = "/run/x"
mode = 0666`, "Everybody on this machine can connect"},
		{`path = "/run/x"
owner = "no-such-user"`, `"no-such-user": unknown name on this machine`},
		{`path = "/run/x"
group = "no-such-group"`, "Unknown group"},
	} {
		file, diags := config.Parse("maddy.conf", []byte("endpoint \"x\" \"x\" {\n"+tt.body+"\n}\n"))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		var target struct{ Attributes }
		diags = file.Endpoints[0].Decode(&target)
		_, more := Decode(target.Attributes, file.Endpoints[0].Range)
		diags = append(diags, more...)
		if tt.want == "" && len(diags) > 0 || tt.want != "" && (len(diags) != 1 || !strings.Contains(diags[0].Summary+": "+diags[0].Detail, tt.want)) {
			t.Errorf("%s\n got %v\nwant %s", tt.body, diags, tt.want)
		}
	}
}
