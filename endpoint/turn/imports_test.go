package turn

import (
	"go/build"
	"strings"
	"testing"
)

// TestDefaultEngineIsNotPions checks that the default engine imports neither pion/turn nor the packages for it.
func TestDefaultEngineIsNotPions(t *testing.T) {
	const ours = "github.com/mailturn/mailturn/"
	seen := make(map[string]bool)
	var look func(path string)
	look = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		p, err := build.ImportDir("../../"+path, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "github.com/pion/turn/") || strings.HasPrefix(imported, "github.com/pion/stun/") {
				t.Errorf("%s imports %s", path, imported)
			}
			if room, here := strings.CutPrefix(imported, ours); here {
				look(room)
			}
		}
	}
	look("endpoint/turn")
	if !seen["turnsrv"] || len(seen) < 10 {
		t.Errorf("found only %d packages: %v", len(seen), seen)
	}
}
