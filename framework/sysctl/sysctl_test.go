package sysctl

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// kernel returns settings with these values.
func kernel(values map[string]string) fs.FS {
	files := make(fstest.MapFS)
	for name, value := range values {
		files[strings.ReplaceAll(name, ".", "/")] = &fstest.MapFile{Data: []byte(value + "\n")}
	}
	return files
}

func TestInt(t *testing.T) {
	settings := kernel(map[string]string{"net.core.rmem_max": "212992", "net.ipv4.tcp_rmem": "4096\t131072\t6291456", "empty": "", "word": "bbr", "huge": "99999999999999999999"})
	for name, want := range map[string]int{"net.core.rmem_max": 212992, "net.ipv4.tcp_rmem": -1, "empty": -1, "word": -1, "huge": -1, "net.core": -1, "gone": -1} {
		if got, ok := Int(settings, name); ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: got %d, %v, want %d", name, got, ok, want)
		}
	}
}

func TestEphemeral(t *testing.T) {
	for _, tt := range []struct {
		name, picked, reserved string
		first, last            uint16
	}{
		{"Debian's default", "32768\t60999", "", 49152, 60999},
		{"reserved", "32768\t60999", "49152-65535", 0, 0},
		{"reserved in parts", "32768\t60999", "8080,49152-50000,50001,50002-65535", 0, 0},
		{"a gap", "32768\t60999", "49152-50000,50002-65535", 50001, 50001},
		{"the first ones are reserved", "32768\t60999", "40000-55000", 55001, 60999},
		{"all ports", "1\t65535", "", 49152, 65535},
		{"picked elsewhere", "32768\t49151", "", 0, 0},
		{"no such setting", "", "", 0, 0},
		{"what is no port", "32768\t70000", "", 0, 0},
		{"reserved for what is no port", "32768\t60999", "49152-99999", 49152, 60999},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settings := kernel(map[string]string{ephemeralPorts: tt.picked, reservedPorts: tt.reserved})
			first, last, some := Ephemeral(settings, 49152, 65535)
			if first != tt.first || last != tt.last || some != (tt.first > 0) {
				t.Errorf("got %d to %d, %v, want %d to %d", first, last, some, tt.first, tt.last)
			}
		})
	}
}

func TestConntrack(t *testing.T) {
	table := func(entries, limit string) fs.FS {
		return kernel(map[string]string{"net.netfilter.nf_conntrack_count": entries, ConntrackMax: limit})
	}
	for _, tt := range []struct {
		entries, limit             string
		tracks, nearlyFull, isFull bool
	}{
		{"0", "65536", true, false, false},
		{"52428", "65536", true, false, false},
		{"52429", "65536", true, true, false},
		{"65536", "65536", true, true, true},
		{"65600", "65536", true, true, true}, // the limit was lowered
		{"5", "0", false, false, false},      // no limit
		{"", "", false, false, false},
	} {
		c, tracks := ReadConntrack(table(tt.entries, tt.limit))
		if tracks != tt.tracks || tracks && (c.NearlyFull() != tt.nearlyFull || c.Full() != tt.isFull) {
			t.Errorf("%s of %s: got %v, %v, %v", tt.entries, tt.limit, tracks, c.NearlyFull(), c.Full())
		}
	}
	if _, tracks := ReadConntrack(kernel(nil)); tracks {
		t.Error("a kernel without the table tracks connections")
	}

	const want = `
# HELP mailturn_conntrack_entries Connections, UDP included, that the kernel tracks.
# TYPE mailturn_conntrack_entries gauge
mailturn_conntrack_entries 7
# HELP mailturn_conntrack_entries_limit Connections that the kernel can track at a time.
# TYPE mailturn_conntrack_entries_limit gauge
mailturn_conntrack_entries_limit 65536
`
	if err := testutil.CollectAndCompare(ConntrackCollector(table("7", "65536")), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(ConntrackCollector(kernel(nil))); n != 0 {
		t.Errorf("%d metrics of a table that does not exist", n)
	}
}
