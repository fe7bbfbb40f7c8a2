package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// configureDoor adds an endpoint to a configuration.
func configureDoor(t *testing.T, config, door string) {
	t.Helper()
	f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(door); err != nil {
		t.Fatal(err)
	}
}

// TestCredsock asks for credentials in Python, as chatmail's metadata daemon does, and uses them in a TURN client. The socket
// replaces a stale one, and a second mailturn must not replace it.
func TestCredsock(t *testing.T) {
	t.Parallel()
	python := peer(t, "python3", "python3")
	dir, err := os.MkdirTemp("", "credsock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "turn.socket")
	runClient(t, python, "-c", "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])", path)

	p := freePorts(t)
	config := configure(t, p, allowLoopback, "")
	configureDoor(t, config, fmt.Sprintf("endpoint \"credsock\" \"chatmail\" {\n  path = %q\n}\n", path))
	start(t, t.TempDir(), "--config", config)

	another := filepath.Join(t.TempDir(), "another.conf")
	text := fmt.Sprintf("endpoint \"credsock\" \"chatmail\" {\n  path = %q\n  turn_secret = %q\n}\n", path, secret)
	if err := os.WriteFile(another, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(binary, "run", "--state-dir", t.TempDir(), "--config", another).CombinedOutput(); err == nil ||
		!strings.Contains(string(output), "another process is listening there") {
		t.Errorf("a second mailturn on the socket: %v\n%s", err, output)
	}

	output, _ := runClient(t, python, filepath.Join("testdata", "credsock_reader.py"), path, "200")
	lines := strings.Fields(output)
	if len(lines) != 200 {
		t.Fatalf("got %d lines", len(lines))
	}
	username, password, _ := strings.Cut(lines[0], ":")
	if want := mint(username); password != want {
		t.Fatalf("got %q, want the password %s", lines[0], want)
	}
	relays(t, credential{host: "127.0.0.1", port: fmt.Sprint(p.turn), username: username, password: password}, p.turn)
	interop.Record(t, interop.Cell{
		Kind: interop.Door, Name: "chatmail's metadata daemon", Version: chatmailVersion, Control: "wrong password",
		How: "asks the credsock endpoint as its source does", Figures: fmt.Sprintf("%d at once", len(lines)),
	})
}
