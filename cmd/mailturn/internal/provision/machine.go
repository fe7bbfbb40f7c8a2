package provision

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/bounded"
)

// A Machine is what setup examines and changes. In tests, it is a directory and a few functions.
type Machine struct {
	// Root is the directory that contains the machine's files; empty for the root directory.
	Root string
	// Run runs a program and returns its output, including standard error. The error says how it ended.
	Run func(ctx context.Context, program string, args ...string) (output string, err error)
	// Lookup returns the addresses of a name in DNS. It ignores /etc/hosts, which clients elsewhere do not have.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// Addresses returns the addresses of the machine's interfaces.
	Addresses func() ([]netip.Addr, error)
	// Greeting connects to an IMAP server, with TLS if overTLS is true, and returns an error unless it greets. Its certificate must
	// be for serverName, unless that is empty.
	Greeting func(ctx context.Context, address string, overTLS bool, serverName string) error
	// Allocation requests a relayed address from a TURN server over UDP, with a credential issued with the secret in a file.
	Allocation func(ctx context.Context, address netip.AddrPort, secretFile string) error
	// Store has the service manager store duplicates of listening sockets for the service whose main process is pid: those for each
	// HOST:PORT at which it will listen.
	Store func(pid int, sockets map[string][]Descriptor) error
	Now   func() time.Time
	// Mailturn is the path of this program, which checks configurations.
	Mailturn string
}

// path returns the path of a file of the machine.
func (m *Machine) path(name string) string { return filepath.Join(m.Root, name) }

// read returns a small file.
func (m *Machine) read(name string) ([]byte, error) {
	text, _, err := bounded.ReadFile(m.path(name), bounded.MaxFile)
	return text, err
}

// text returns a small file, or nothing if it cannot be read.
func (m *Machine) text(name string) string {
	text, _ := m.read(name)
	return string(text)
}

// exists reports whether there is a file or a directory.
func (m *Machine) exists(name string) bool {
	_, err := os.Stat(m.path(name))
	return err == nil
}

// isLink reports whether there is a symbolic link.
func (m *Machine) isLink(name string) bool {
	info, err := os.Lstat(m.path(name))
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// glob returns the files that match a pattern, by their names on the machine.
func (m *Machine) glob(pattern string) (names []string) {
	found, _ := filepath.Glob(m.path(pattern))
	for _, name := range found {
		if m.Root != "" {
			name = strings.TrimPrefix(name, filepath.Clean(m.Root))
		}
		names = append(names, name)
	}
	return names
}

// run runs a program and returns its output without the final line break.
func (m *Machine) run(ctx context.Context, program string, args ...string) (string, error) {
	output, err := m.Run(ctx, program, args...)
	return strings.TrimSpace(output), err
}

// state returns a property of a systemd unit, or "" if it is unknown.
func (m *Machine) state(ctx context.Context, unit, property string) string {
	output, _ := m.run(ctx, "systemctl", "show", "--property="+property, "--value", unit)
	return output
}

// A commandError is the failure of a program, with the end of its output.
type commandError struct {
	command, output string
	err             error
}

func (e *commandError) Error() string {
	text := fmt.Sprintf("%s: %v", e.command, e.err)
	if output := strings.TrimSpace(e.output); output != "" {
		text += "\n" + indent(lastLines(output, 20))
	}
	return text
}

func (e *commandError) Unwrap() error { return e.err }

// command runs a program. If it fails, the error contains its output.
func (m *Machine) command(ctx context.Context, argv []string) error {
	output, err := m.Run(ctx, argv[0], argv[1:]...)
	if err != nil {
		return &commandError{strings.Join(argv, " "), output, err}
	}
	return nil
}

// lastLines returns the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// indent indents every line of a text.
func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// groupID looks up a group in the machine's own /etc/group, which may be below Root.
func (m *Machine) groupID(name string) (id int, ok bool) {
	for line := range strings.Lines(m.text("/etc/group")) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) >= 3 && fields[0] == name {
			_, err := fmt.Sscan(fields[2], &id)
			return id, err == nil
		}
	}
	return 0, false
}
