package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestInstall checks that `go install ./...` installs only mailturn: tools for developers are run from their main.go, which the
// pattern does not match.
func TestInstall(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	const want = "github.com/mailturn/mailturn/cmd/mailturn"
	if got := strings.Fields(string(out)); len(got) != 1 || got[0] != want {
		t.Errorf("installs %q, want %s alone", got, want)
	}
}
