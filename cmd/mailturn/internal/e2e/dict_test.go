package e2e

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A dict serves Dovecot's "proxy:" dictionary, in which a chatmail relay keeps the values of METADATA. Requests
// are lines of fields between tabs; the first byte of a line is what is asked for.
type dict struct {
	mu     sync.Mutex // guards values
	values map[string]string
	// credential, if not nil, is asked for the value of Delta Chat's TURN entry each time.
	credential func() (string, error)
}

// turnKey is the name of Delta Chat's TURN entry in the dictionary.
const turnKey = serverEntry + "vendor/deltachat/turn"

// maxDictLine bounds a request, which holds one value.
const maxDictLine = 1 << 20

// startDict serves a dictionary at a path that Dovecot may connect to, until the test ends.
func startDict(t *testing.T, values map[string]string) (d *dict, path string) {
	t.Helper()
	// As for Dovecot's own directory: short, and not below one that only root may enter.
	dir, err := os.MkdirTemp("", "dict")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "metadata.socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{dir: 0o755, path: 0o777} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	d = &dict{values: maps.Clone(values)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				d.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait() // Dovecot, which was started later, has been stopped
		os.RemoveAll(dir)
	})
	return d, path
}

// entry returns the part of a key that does not change with the mailbox: priv/GUID/x or shared/GUID/x.
func entry(key, user string) string {
	kind, rest, _ := strings.Cut(key, "/")
	_, name, _ := strings.Cut(rest, "/")
	if kind == "priv" {
		return user + ":" + name
	}
	return name
}

func (d *dict) serve(conn net.Conn) {
	transactions := make(map[string]map[string]*string) // by number: what is set, nil for unset
	owners := make(map[string]string)
	scanner := bufio.NewScanner(conn)
	scanner.Buffer(nil, maxDictLine)
	for scanner.Scan() {
		line := scanner.Text()
		if line == "" {
			continue
		}
		fields := strings.Split(line[1:], "\t")
		field := func(i int) string {
			if i < len(fields) {
				return fields[i]
			}
			return ""
		}
		switch line[0] {
		case 'L': // look up: key, user
			name := entry(field(0), field(1))
			if d.credential != nil && name == turnKey {
				if value, err := d.credential(); err != nil {
					fmt.Fprintf(conn, "F%v\n", err)
				} else {
					fmt.Fprintf(conn, "O%s\n", value)
				}
				continue
			}
			if value, ok := d.get(name); ok {
				fmt.Fprintf(conn, "O%s\n", value)
			} else {
				io.WriteString(conn, "N\n")
			}
		case 'I': // iterate: flags, most, prefix, user
			prefix := strings.TrimRight(entry(field(2), field(3)), "/") + "/"
			d.mu.Lock()
			for _, name := range slices.Sorted(maps.Keys(d.values)) {
				if rest, ok := strings.CutPrefix(name, prefix); ok {
					fmt.Fprintf(conn, "O%s%s\t%s\n", field(2), rest, d.values[name])
				}
			}
			d.mu.Unlock()
			io.WriteString(conn, "\n")
		case 'B': // begin: number, user
			transactions[field(0)] = make(map[string]*string)
			owners[field(0)] = field(1)
		case 'S': // set: number, key, value
			if set, value := transactions[field(0)], field(2); set != nil {
				set[entry(field(1), owners[field(0)])] = &value
			}
		case 'U': // unset: number, key
			if set := transactions[field(0)]; set != nil {
				set[entry(field(1), owners[field(0)])] = nil
			}
		case 'C': // commit: number
			d.mu.Lock()
			for name, value := range transactions[field(0)] {
				if value == nil {
					delete(d.values, name)
				} else {
					d.values[name] = *value
				}
			}
			d.mu.Unlock()
			delete(transactions, field(0))
			fmt.Fprintf(conn, "O%s\n", field(0))
		}
	}
}

// get returns a value by what entry makes of its key.
func (d *dict) get(name string) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	value, ok := d.values[name]
	return value, ok
}
