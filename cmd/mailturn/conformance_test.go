package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/pionturn"
)

// A conformanceRow is a row of docs/conformance.md.
type conformanceRow struct {
	id, rule string // id is empty for a row that has none
	tests    []string
	notPion  bool
}

// readConformance returns the rows of docs/conformance.md.
func readConformance(t *testing.T) (rows []conformanceRow) {
	t.Helper()
	text, err := os.ReadFile("../../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || strings.Contains(line, "---") || strings.TrimSpace(cells[1]) == "row" {
			continue
		}
		row := conformanceRow{id: strings.TrimSpace(cells[1]), rule: strings.TrimSpace(cells[2])}
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[3], -1) {
			row.tests = append(row.tests, name[1])
		}
		row.notPion = len(cells) > 5 && strings.TrimSpace(cells[4]) == "no"
		rows = append(rows, row)
	}
	return rows
}

// readTests returns the names of the tests in this tree, those of the scripts of imapext in the form for "go test -run".
func readTests(t *testing.T) map[string]bool {
	t.Helper()
	tests := make(map[string]bool)
	if err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == "node_modules" {
			return filepath.SkipDir
		}
		var name *regexp.Regexp
		prefix := ""
		switch {
		case strings.HasSuffix(path, "_test.go"):
			name = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
		case strings.HasSuffix(path, ".txtar") && strings.Contains(filepath.ToSlash(path), "/imapext/"):
			name = regexp.MustCompile(`(?m)^-- (.+) --$`)
			prefix = "TestScripts/" + strings.TrimSuffix(entry.Name(), ".txtar") + "/"
		default:
			return nil
		}
		text, err := os.ReadFile(path)
		for _, found := range name.FindAllStringSubmatch(string(text), -1) {
			tests[prefix+strings.ReplaceAll(found[1], " ", "_")] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return tests
}

// TestConformanceTable compares docs/conformance.md with the tests: each row has tests, which exist, and each test that is named
// after a row is in that row.
func TestConformanceTable(t *testing.T) {
	tests, rows := readTests(t), readConformance(t)
	listed := make(map[string]string) // test to row
	seen := make(map[string]bool)
	for _, row := range rows {
		if len(row.tests) == 0 {
			t.Errorf("docs/conformance.md: no test holds %s %q", row.id, row.rule)
		}
		if row.id != "" && seen[row.id] {
			t.Errorf("docs/conformance.md has %s twice", row.id)
		}
		seen[row.id] = true
		for _, name := range row.tests {
			if !tests[name] {
				t.Errorf("docs/conformance.md: there is no test %s, for %s %q", name, row.id, row.rule)
			}
			if id := rowOf(name); id != "" && id != row.id {
				t.Errorf("docs/conformance.md: %s is named after another row than %s", name, row.id)
			}
			listed[name] = row.id
		}
	}
	for name := range tests {
		if id := rowOf(name); id != "" && listed[name] != id {
			t.Errorf("%s is named after a row of docs/conformance.md that does not list it", name)
		}
	}
	if len(rows) < 70 || len(tests) < 700 || tests["TestNone"] {
		t.Errorf("found %d rows and %d tests", len(rows), len(tests))
	}
}

// rowOf returns the row that a test is named after, if any: T20 for TestT20CreatePermissionIsAtomic.
func rowOf(test string) string {
	found := regexp.MustCompile(`^(?:Test|Fuzz)([THM]\d+)`).FindStringSubmatch(test)
	if found == nil {
		return ""
	}
	return found[1]
}

// TestConformanceOfPion checks that the rows that docs/conformance.md excludes for pion are those of package pionturn.
func TestConformanceOfPion(t *testing.T) {
	var unmet []string
	for _, row := range readConformance(t) {
		if row.notPion {
			unmet = append(unmet, row.id)
		}
	}
	slices.Sort(unmet)
	if want := slices.Sorted(slices.Values(pionturn.UnmetRows())); !slices.Equal(unmet, want) {
		t.Errorf("docs/conformance.md says no for %v, and pionturn.UnmetRows are %v", unmet, want)
	}
}
