package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLinksLeadSomewhere checks that each relative link of a document leads to a file, and each fragment to a heading in it.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := make(map[string]string)
	for _, pattern := range []string{"../../*.md", "../../docs/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pages[path] = regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(string(text), "")
		}
	}
	found := 0
	for path, text := range pages {
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			found++
			name, fragment, _ := strings.Cut(link[1], "#")
			target := path
			if name != "" {
				target = filepath.Join(filepath.Dir(path), name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", path, link[1], err)
			} else if fragment != "" && !hasHeading(pages[target], fragment) {
				t.Errorf("%s links to %s, and %s has no such heading", path, link[1], target)
			}
		}
	}
	if found < 50 {
		t.Errorf("found %d links", found)
	}
	if hasHeading(pages["../../README.md"], "no-such-heading") {
		t.Error("found a heading that does not exist")
	}
}

// hasHeading reports whether a page has a heading with that fragment on forges: in lower case, with hyphens for spaces, and without
// other punctuation.
func hasHeading(page, fragment string) bool {
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		slug := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		if strings.ReplaceAll(slug, " ", "-") == fragment {
			return true
		}
	}
	return false
}
