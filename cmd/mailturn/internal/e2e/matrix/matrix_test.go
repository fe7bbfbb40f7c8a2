package matrix

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// record writes a directory of cells: a JSON line for each version of a server's.
func record(t *testing.T, lines ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cells.jsonl"), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

const (
	old   = `{"kind":"server","name":"Dovecot","version":"2.3","how":"proxied","control":"wrong password"}`
	newer = `{"kind":"server","name":"Dovecot","version":"2.4","how":"proxied","control":"wrong password"}`
	other = `{"kind":"server","name":"Cyrus","version":"3.6","how":"proxied","control":"wrong password"}`
)

func TestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "interop.md")
	if _, err := Run(t.Output(), file, record(t, old), false, false); err == nil {
		t.Error("no error without a file")
	}
	for _, step := range []struct {
		name       string
		lines      []string
		write, add bool
		same       bool
		says       string
	}{
		{name: "write", lines: []string{old}, write: true, same: true},
		{name: "the same", lines: []string{old}, same: true},
		{name: "newer", lines: []string{newer}, same: true, says: "other version (no error): server Dovecot, proxied: 2.4 instead of 2.3\n"},
		{name: "new", lines: []string{old, other}, says: "new: server Cyrus, proxied\n"},
		{name: "add", lines: []string{other}, add: true, same: true},
		{name: "both", lines: []string{old, other}, same: true},
		{name: "missing", lines: []string{other}, says: "missing: server Dovecot, proxied\n"},
		{name: "write less", lines: []string{other}, write: true, same: true},
		{name: "less", lines: []string{other}, same: true},
	} {
		var out strings.Builder
		same, err := Run(&out, file, record(t, step.lines...), step.write, step.add)
		if err != nil || same != step.same || !strings.HasPrefix(out.String(), step.says) || step.says == "" && out.Len() > 0 {
			t.Errorf("%s: got %v, %v and %q", step.name, same, err, out.String())
		}
	}
	if _, err := Run(t.Output(), file, t.TempDir(), true, false); err == nil {
		t.Error("no error without cells")
	}
}
