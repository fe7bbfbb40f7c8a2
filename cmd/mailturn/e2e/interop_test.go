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
	v := regexp.MustCompile(`\d+(\.\d+)+(esr)?`).FindString(string(out))
	if v == "" {
		t.Fatalf("no version in what %s %s says (%v): %s", program, strings.Join(args, " "), err, out)
	}
	return v
}
