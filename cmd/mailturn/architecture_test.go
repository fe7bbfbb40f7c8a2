package main

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readArchitecture returns the contents of docs/architecture.md: for each room, which others it may import, and its packages in
// order.
func readArchitecture(t *testing.T) (mayImport map[string][]string, packages []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	mayImport = make(map[string][]string)
	column := ""
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			column = ""
			continue
		}
		names := func(cell string) (found []string) {
			for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
				found = append(found, match[1])
			}
			return found
		}
		switch name := names(cells[1]); {
		case column == "":
			column = strings.TrimSpace(cells[1])
		case column == "room" && len(name) == 1:
			mayImport[name[0]] = names(cells[2])
		case column == "package" && len(name) == 1:
			packages = append(packages, name[0])
		}
	}
	return mayImport, packages
}

// isTestHelper reports whether a package is only for tests.
func isTestHelper(dir string) bool {
	return strings.HasPrefix(dir, "cmd/mailturn/internal/e2e") || strings.HasSuffix(dir, "test")
}

// TestArchitecture checks that docs/architecture.md lists every package, and that imports follow it: from room to room as in its
// first table, and within a room only to packages further down.
func TestArchitecture(t *testing.T) {
	const ours = "github.com/mailturn/mailturn/"
	mayImport, listed := readArchitecture(t)
	room := func(dir string) string { name, _, _ := strings.Cut(dir, "/"); return name }
	found := 0
	if err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		dir, err := filepath.Rel("../..", path)
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		if name := entry.Name(); name == "testdata" || name == "node_modules" || dir != "." && strings.HasPrefix(name, ".") || isTestHelper(dir) {
			return filepath.SkipDir
		}
		p, err := build.ImportDir(path, 0)
		if _, none := err.(*build.NoGoError); none {
			return nil
		} else if err != nil {
			return err
		}
		found++
		position := slices.Index(listed, dir)
		if position < 0 && dir != "dist" {
			t.Errorf("docs/architecture.md does not list %s", dir)
			return nil
		}
		for _, imported := range p.Imports {
			imported, isOurs := strings.CutPrefix(imported, ours)
			switch {
			case !isOurs || isTestHelper(imported):
			case room(imported) != room(dir):
				if !slices.Contains(mayImport[room(dir)], room(imported)) {
					t.Errorf("%s imports %s, which docs/architecture.md does not allow", dir, imported)
				}
			case slices.Index(listed, imported) < position:
				t.Errorf("%s imports %s, which is not further down in docs/architecture.md", dir, imported)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, dir := range listed {
		if slices.Contains(listed[:i], dir) {
			t.Errorf("docs/architecture.md lists %s twice", dir)
		}
		if _, err := build.ImportDir(filepath.Join("../..", dir), 0); err != nil {
			t.Errorf("docs/architecture.md lists %s: %v", dir, err)
		}
	}
	if found < 30 || len(mayImport) < 6 {
		t.Errorf("found %d packages and %d rooms", found, len(mayImport))
	}
}
