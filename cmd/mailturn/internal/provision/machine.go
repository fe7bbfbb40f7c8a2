package provision

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/bounded"
)

// A Machine is what setup looks at and changes. Tests have one that is a directory and a few functions.
type Machine struct {
	// Root is the directory in which the paths of files start; empty for that of the system.
	Root string
	// Run runs a program and returns what it writes, to standard error too. The error says how it ended.
	Run func(ctx context.Context, program string, args ...string) (output string, err error)
	// Lookup asks DNS for the addresses of a name, and not /etc/hosts, which clients elsewhere do not have.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// Addresses are those of the machine's interfaces.
	Addresses func() ([]netip.Addr, error)
	// Greeting connects to an IMAP server, over TLS if the port is for that, and returns an error unless it greets. serverName
	// is what its certificate must be for; empty if that does not matter.
	Greeting func(ctx context.Context, address string, overTLS bool, serverName string) error
	// Allocation requests a relayed address of a TURN server over UDP with a credential made from the secret in a file.
	Allocation func(ctx context.Context, address netip.AddrPort, secretFile string) error
	// Store has the service manager store duplicates of listening sockets for the service whose main process is pid: those for each
	// HOST:PORT at which it will listen.
	Store func(pid int, sockets map[string][]Descriptor) error
	Now   func() time.Time
	// Mailturn is the program that checks configurations: this one.
	Mailturn string
}

// path returns where a file of the machine is.
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

// glob returns the names of files that match a pattern, as the machine has them.
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

// run runs a program, and returns its output without the line break at its end.
func (m *Machine) run(ctx context.Context, program string, args ...string) (string, error) {
	output, err := m.Run(ctx, program, args...)
	return strings.TrimSpace(output), err
}

// state returns what systemd says of a unit's property, empty if it does not say.
func (m *Machine) state(ctx context.Context, unit, property string) string {
	output, _ := m.run(ctx, "systemctl", "show", "--property="+property, "--value", unit)
	return output
}

// A commandError is a program that failed, with the end of what it said.
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

// command runs a program whose failure is an error that says what it said.
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

// indent moves every line of a text to the right.
func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// groupID looks a group up in the machine's file: a library would look at another root.
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
