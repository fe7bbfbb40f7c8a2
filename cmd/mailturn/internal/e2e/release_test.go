package e2e

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/probe"
)

// released makes the files of a release once for all tests, beside the binary, and returns their directory.
var released = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(filepath.Dir(binary), "release")
	return dir, makeRelease(dir)
})

func makeRelease(dir string, environment ...string) error {
	cmd := exec.Command("../../../../.ci/release", dir)
	cmd.Env = append(os.Environ(), environment...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return &failedCommand{cmd, err, stderr.String()}
	}
	return nil
}

type failedCommand struct {
	cmd    *exec.Cmd
	err    error
	stderr string
}

func (f *failedCommand) Error() string {
	return f.cmd.String() + ": " + f.err.Error() + "\n" + f.stderr
}

// release returns the one file of the release that the pattern matches.
func release(t *testing.T, pattern string) string {
	t.Helper()
	peer(t, "git", "git")
	if runtime.GOOS != "linux" {
		lacks(t, "a release is made on Linux")
	}
	dir, err := released()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s is %q, %v", pattern, files, err)
	}
	return files[0]
}

// TestReleaseIsReproducible makes the release twice, the second time in another directory, time zone and language. The files must
// be the same.
func TestReleaseIsReproducible(t *testing.T) {
	sums := release(t, "SHA256SUMS")
	first, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(first, []byte("\n")); n != 6 {
		t.Errorf("%d files, want a package, an archive and an SBOM for each of two processors\n%s", n, first)
	}
	again, elsewhere := t.TempDir(), t.TempDir()
	if err := makeRelease(again, "TMPDIR="+elsewhere, "TZ=Pacific/Auckland", "LC_ALL=de_DE.UTF-8", "GOFLAGS=-mod=mod -buildvcs=false"); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(again, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("two releases of a commit differ:\n%s\n%s", first, second)
	}
	check := exec.Command("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS")
	check.Dir = again
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestReleaseRunsOnOtherProcessors runs the program for the processor that this machine does not have, and probes it.
func TestReleaseRunsOnOtherProcessors(t *testing.T) {
	arch, emulator := "arm64", "qemu-aarch64-static"
	if runtime.GOARCH == "arm64" {
		arch, emulator = "amd64", "qemu-x86_64-static"
	}
	qemu, dir := peer(t, emulator, "qemu-user-static"), t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "--strip-components=1", "-xzf", release(t, "mailturn-*-linux-"+arch+".tar.gz")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program := filepath.Join(dir, "mailturn")
	if out, err := exec.Command(qemu, program, "version").CombinedOutput(); err != nil || !bytes.Contains(out, []byte(" linux/"+arch+"\n")) {
		t.Errorf("version: %v\n%s", err, out)
	}
	s := startSiteOf(t, []string{qemu, program}, publicRelay, "", "")
	r := s.probe(t, aliceAtSite)
	wantVerdict(t, r, "", probe.OK, "A call would connect.")
	for _, relay := range r.Relays {
		if relay.RelayToRelay == nil || relay.RelayToRelay.Received == 0 {
			t.Errorf("%s over %s: relay to relay %v", relay.Address, relay.Transport, relay.RelayToRelay)
		}
	}
	if len(r.Relays) != 6 {
		t.Errorf("%d ways were tried, want two addresses over UDP, TCP and TLS", len(r.Relays))
	}
}

// TestReleaseArchive checks that the archive contains a static program that runs, and everything that the documentation installs
// from it.
func TestReleaseArchive(t *testing.T) {
	archive := release(t, "mailturn-*-linux-"+runtime.GOARCH+".tar.gz")
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "--strip-components=1", "-xzf", archive).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"README.md", "CHANGELOG.md", "LICENSE", "maddy.conf.example", "dist/mailturn.service", "dist/THIRD_PARTY_LICENSES",
		"man/mailturn-run.1", "man/mailturn.conf.5", "completions/mailturn", "completions/_mailturn", "completions/mailturn.fish"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	program := filepath.Join(dir, "mailturn")
	out, err := exec.Command(program, "version").CombinedOutput()
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(archive), "mailturn-"), "-linux-"+runtime.GOARCH+".tar.gz")
	if err != nil || !strings.HasPrefix(string(out), "mailturn v"+version+"\n") {
		t.Errorf("version: %v\n%s", err, out)
	}
	if out, err := exec.Command(program, "check-config", filepath.Join(dir, "maddy.conf.example")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range info.Settings {
		if setting.Key == "CGO_ENABLED" && setting.Value != "0" || setting.Key == "vcs.modified" && setting.Value != "false" {
			t.Errorf("it was built with %s=%s", setting.Key, setting.Value)
		}
	}

	// The SBOM lists what the program says it was built from.
	text, err := os.ReadFile(release(t, "mailturn-*-linux-"+runtime.GOARCH+".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var sbom struct {
		Format     string `json:"bomFormat"`
		Metadata   struct{ Component struct{ Version string } }
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(text, &sbom); err != nil || sbom.Format != "CycloneDX" || sbom.Metadata.Component.Version != "v"+version {
		t.Errorf("the SBOM is of %+v, %v", sbom.Metadata, err)
	}
	listed := make(map[string]string)
	for _, component := range sbom.Components {
		listed[component.Name] = component.Version
	}
	for _, module := range info.Deps {
		if listed[module.Path] != module.Version {
			t.Errorf("the SBOM has %s %q, want %s", module.Path, listed[module.Path], module.Version)
		}
	}
	if listed["std"] == "" {
		t.Error("the SBOM does not list Go's standard library")
	}
}

// TestPackageLints checks that Debian's lintian finds nothing in the packages. dist/deb/lintian-overrides lists the exceptions.
func TestPackageLints(t *testing.T) {
	lintian := peer(t, "lintian", "lintian")
	for _, arch := range []string{"amd64", "arm64"} {
		file := release(t, "mailturn_*_"+arch+".deb")
		out, err := exec.Command(lintian, "--allow-root", "--fail-on=error,warning", file).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if out, err := exec.Command(lintian, "--allow-root", "--no-override", file).CombinedOutput(); !strings.Contains(string(out), "statically-linked-binary") {
			t.Errorf("lintian does not see what is overridden: %v\n%s", err, out)
		}
	}
}
