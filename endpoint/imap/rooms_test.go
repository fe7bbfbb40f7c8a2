package imap

import (
	"go/build"
	"slices"
	"strings"
	"testing"
)

// TestImports checks that imports between the packages of this endpoint go in one direction: each may import only those that the
// table names, and the filter, which others embed, imports none of our packages but its own parts.
func TestImports(t *testing.T) {
	const ours = "github.com/mailturn/mailturn/"
	for dir, allowed := range map[string][]string{
		"upstream": {"backend", "origin", "patient"},
		"embedded": {"backend", "origin", "pipe"},
		"backend":  {"origin", "patient"},
		"pipe":     {"patient"},
		"origin":   {},
		"patient":  {},
		"deflate":  {},
	} {
		p, err := build.ImportDir(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			if room, here := strings.CutPrefix(path, ours+"endpoint/"); here && !slices.Contains(allowed, strings.TrimPrefix(room, "imap/")) {
				t.Errorf("endpoint/imap/%s imports endpoint/%s", dir, room)
			}
		}
	}
	for _, dir := range []string{"imapext", "imapext/metadata", "imapext/discovery"} {
		p, err := build.ImportDir("../../"+dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			if strings.HasPrefix(path, ours) && !strings.HasPrefix(path, ours+"imapext/") {
				t.Errorf("%s imports %s", dir, path)
			}
		}
	}
}
