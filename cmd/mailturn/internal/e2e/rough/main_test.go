package rough

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/certs"
)

// Files in the directory that TestMain makes.
var mailturn, agent, certificate, key string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mailturn-rough")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	mailturn, agent = filepath.Join(dir, "mailturn"), filepath.Join(dir, "agent")
	pair, _, err := certs.SelfSigned(dir, []string{relayIPv4, relayIPv6, relayNAT64}, time.Now())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	certificate, key = pair.Cert, pair.Key
	// pion/ice and OpenSSL use the system's roots, which they read from here.
	os.Setenv("SSL_CERT_FILE", certificate)
	for _, build := range []struct{ program, dir, path string }{{mailturn, "../../..", "."}, {agent, ".", "./agent"}} {
		cmd := exec.Command("go", "build", "-o", build.program, build.path)
		cmd.Dir = build.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", filepath.Base(build.program), err, out)
			return 1
		}
	}
	return m.Run()
}
