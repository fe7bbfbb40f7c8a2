package e2e

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Ways in which clients got their credential, in docs/interop.md.
const (
	overMetadata   = "IMAP METADATA"
	bySharedSecret = "shared secret" // minted as the TURN REST API has it
)

// programVersion is the first thing in a program's output that looks like a version.
func programVersion(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return versionIn(t, string(out))
}

// versionIn returns the first version in a text.
func versionIn(t *testing.T, text string) string {
	t.Helper()
	v := regexp.MustCompile(`\d+(\.\d+)+(esr)?`).FindString(text)
	if v == "" {
		t.Fatalf("no version in %q", text)
	}
	return v
}
