package acme

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// updateKey is the TSIG keys of the name server.
const updateKey = "bWFpbHR1cm4gbWFpbHR1cm4gbWFpbHR1cm4gbWFpbHQ="

// startKnot runs Knot DNS with a zone that accepts updates of TXT records only with the key mailturn, and returns its address. It also
// knows a key reader.
func startKnot(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("knotd")
	if err != nil {
		lacks(t, "knotd is not installed: apt-get install knot")
	}
	dir, address := t.TempDir(), freeAddr(t)
	host, port := "127.0.0.1", address[len("127.0.0.1:"):]
	for name, text := range map[string]string{
		"knot.conf": fmt.Sprintf(`
server:
  rundir: %[1]q
  listen: %[2]s@%[3]s
database:
  storage: %[1]q
log:
  - target: stderr
    any: info
key:
  - id: mailturn
    algorithm: hmac-sha256
    secret: %[4]s
  - id: reader
    algorithm: hmac-sha256
    secret: %[4]s
acl:
  - id: challenges
    key: mailturn
    action: update
    update-type: TXT
zone:
  - domain: example.test
    storage: %[1]q
    file: example.test.zone
    acl: challenges
`, dir, host, port, updateKey),
		"example.test.zone": `
@    60 SOA ns.example.test. hostmaster.example.test. 1 3600 600 86400 60
@    60 NS  ns.example.test.
ns   60 A   127.0.0.1
mail 60 A   127.0.0.1
turn 60 A   127.0.0.1
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	knot, err := daemon.Start(t.Context(), exec.Command(program, "--config", filepath.Join(dir, "knot.conf")), "server started")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := knot.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("knotd:\n%s", knot.Log())
		}
	})
	return address
}
