package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/mailturn/mailturn/framework/config"
)

// TestSetupWritesConfigurations decodes each configuration that the plans of internal/provision have, and wants neither errors nor
// warnings, and nothing of the example.
func TestSetupWritesConfigurations(t *testing.T) {
	paths, err := filepath.Glob("internal/provision/testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile(`"/etc/mailturn/[^"]*(fullchain|privkey)\.pem"`)
	dir := certificate(t)
	found := 0
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, diff, planned := strings.Cut(string(archive.Files[len(archive.Files)-1].Data), "+++ /etc/mailturn/maddy.conf\n")
		if !planned {
			continue
		}
		found++
		var text strings.Builder
		for line := range strings.Lines(diff) {
			if added, ok := strings.CutPrefix(line, "+"); ok {
				text.WriteString(added)
			} else if !strings.HasPrefix(line, "@@") && !strings.HasPrefix(line, "-") {
				break
			}
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			own := files.ReplaceAllStringFunc(text.String(), func(file string) string {
				if strings.Contains(file, "privkey") {
					return `"` + dir + `/key.pem"`
				}
				return `"` + dir + `/cert.pem"`
			})
			own = strings.ReplaceAll(own, `"vmail"`, `"root"`) // which is a group everywhere
			file, diags := config.Parse("maddy.conf", []byte(own))
			var s *setup
			if !diags.HasErrors() {
				decoded, more := decode(file, t.TempDir())
				s, diags = decoded, append(diags, more...)
			}
			for _, diag := range diags {
				t.Errorf("%s: %s", diag.Summary, diag.Detail)
			}
			if s == nil || len(s.relays) != 1 || len(s.imaps)+len(s.sockets)+len(s.dicts) != 1 {
				t.Errorf("the endpoints are not those that are wanted in\n%s", own)
			}
		})
	}
	if found < 5 {
		t.Errorf("found %d configurations", found)
	}
}
