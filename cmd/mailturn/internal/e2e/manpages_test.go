package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestManPages runs groff with all warnings on each page. The control is a line too short for its words.
func TestManPages(t *testing.T) {
	groff := peer(t, "groff", "groff-base")
	dir := t.TempDir()
	if out, err := exec.Command(binary, "manpages", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.[15]"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages %q, %v", pages, err)
	}
	warnings := func(page, option string) string {
		t.Helper()
		out, err := exec.Command(groff, "-man", "-Tutf8", "-k", "-ww", "-z", option, page).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	for _, page := range pages {
		if out := warnings(page, "-rLL=80n"); out != "" {
			t.Errorf("groff warns of %s:\n%s", filepath.Base(page), out)
		}
	}
	if warnings(pages[0], "-rLL=5n") == "" {
		t.Error("groff does not warn where a line is too short for a word")
	}
}
