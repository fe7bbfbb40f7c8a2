package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestImportOutputAttributes checks that an imported configuration is readable only by one group.
func TestImportOutputAttributes(t *testing.T) {
	dir := t.TempDir()
	source, path := filepath.Join(dir, "turnserver.conf"), filepath.Join(dir, "maddy.conf")
	text := "realm=example.org\nstatic-auth-secret=correct horse battery staple\nexternal-ip=198.51.100.7\n"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		var stderr bytes.Buffer
		args = append([]string{"import", source, "--output", path}, args...)
		if status := execute(args, strings.NewReader(""), new(bytes.Buffer), &stderr); status != 0 {
			t.Fatalf("%q: exit status %d\n%s", args, status, &stderr)
		}
	}
	wantMode := func(path string, mode fs.FileMode) fs.FileInfo {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), mode)
		}
		return info
	}
	run()
	wantMode(path, 0o640)

	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	run("--merge")
	wantMode(path, 0o640)
	wantMode(path+".bak", 0o644) // it is the old file itself
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	run("--merge")
	wantMode(path, 0o600)

	groups, err := os.Getgroups()
	if os.Geteuid() == 0 {
		groups = append(groups, 1) // any that is not that of the process
	}
	if err != nil || len(groups) == 0 {
		t.Skipf("this process has no group to give a file to: %v", err)
	}
	gid := groups[len(groups)-1]
	group, err := user.LookupGroupId(strconv.Itoa(gid))
	if err != nil {
		t.Skipf("group %d has no name: %v", gid, err)
	}
	run("--overwrite", "--group", group.Name)
	wantMode(path+".bak3", 0o600)
	if stat := wantMode(path, 0o640).Sys().(*syscall.Stat_t); int(stat.Gid) != gid {
		t.Errorf("the file has group %d, want %d", stat.Gid, gid)
	}
}
