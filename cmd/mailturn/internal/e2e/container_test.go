package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/probe"
)

// besideDockerMailserver builds the image and follows the documentation, in namespaces instead of an engine: from the Compose file to a
// call with the credential that Dovecot returns.
func besideDockerMailserver(t *testing.T, _ documents, b recipe.Block) {
	context := filepath.Join(t.TempDir(), "source")
	if out, err := exec.Command(peer(t, "git", "git"), "clone", "--quiet", "../../../..", context).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	built := buildImage(t, "dist/container/Dockerfile", context)
	service, ok := readCompose(t, filepath.Join(context, "dist/container/compose.override.yaml"))["mailturn"]
	if !ok || !service.ReadOnly || built.user == "0" || built.user == "" {
		t.Fatalf("the service is %+v, with the user %s", service, built.user)
	}
	n := newNetwork(t)
	n.nameServer(t, siteNames)
	text, err := os.ReadFile(filepath.Join(context, "dist/container/maddy.conf"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "maddy.conf")
	configured := strings.NewReplacer("mail.example.org", "mail.test", `"udp://0.0.0.0:3478"`, `"udp://0.0.0.0:443", "udp://0.0.0.0:3478"`,
		"\n}\n\n#", "\n  relay_ip = \"198.51.100.1\"\n  peers {\n    allow = [\"198.51.100.0/24\"] # of documentation\n  }\n}\n\n#").Replace(string(text))
	if err := os.WriteFile(config, []byte(configured), 0o644); err != nil {
		t.Fatal(err)
	}
	c := newContainer(t, built, service, n.server, map[string]string{"./docker-data/mailturn/maddy.conf": config})
	healthy := func() (string, bool) {
		out, err := c.command(t, c.healthy).CombinedOutput()
		return string(out), err == nil
	}
	if said, ok := healthy(); ok || !strings.Contains(said, "is mailturn running?") {
		t.Errorf("before the start, the health check says %v:\n%s", ok, said)
	}

	s := startCommand(t, c.command(t, c.entrypoint, c.cmd...))
	if said, ok := healthy(); !ok {
		t.Errorf("the health check fails:\n%s", said)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t65532\t65532\t65532\t65532\n", "Gid:\t65532\t65532\t65532\t65532\n", "Groups:\t5000 \n",
		"CapPrm:\t0000000000000400\n", "CapEff:\t0000000000000400\n", "CapBnd:\t0000000000000400\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.cmd.Process.Pid))
	if err != nil || !regexp.MustCompile(`(?m) / ro,`).Match(mounts) {
		t.Errorf("%v: the root is not read-only:\n%s", err, mounts)
	}

	// Dovecot gets the lines that the documented command prints, and the volume with the socket.
	command := regexp.MustCompile(`(?m)^docker compose run .* mailturn (export .*) >>`).FindStringSubmatch(b.Text)
	if command == nil {
		t.Fatalf("no export in\n%s", b.Text)
	}
	lines, err := c.command(t, c.entrypoint, strings.Fields(command[1])...).Output()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(c.volumes["/run/mailturn"], "dict.socket")
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Gid != 5000 || owner.Uid != 65532 || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket is %d:%d, %v", owner.Uid, owner.Gid, info.Mode())
	}
	if err := os.Chmod(socket, 0o666); err != nil { // the Dovecot of this test runs as another user
		t.Fatal(err)
	}
	answer := askDovecot(t, nil, strings.ReplaceAll(string(lines), "/run/mailturn/dict.socket", socket))
	value := regexp.MustCompile(`mail\.test:443:[0-9]+:[^\s)]+`).FindString(answer)
	if value == "" {
		t.Fatalf("Dovecot answers %q", answer)
	}
	wantVerdict(t, runProbe(t, n.client, "", "--quick", "--dns", serverIPv4, value), "", probe.OK, "A call would connect.")

	// The check reports what prevents the relay from serving.
	if out, err := n.server.command("ip", "addr", "del", serverIPv4+"/24", "dev", "eth0").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if said, ok := healthy(); ok || !strings.Contains(said, "problem: ") {
		t.Errorf("without the relay's address, the health check says %v:\n%s", ok, said)
	}
	if out, err := n.server.command("ip", "addr", "add", serverIPv4+"/24", "dev", "eth0").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.stop(t)

	// Without the capability of the file, there is no port 443.
	if out, err := exec.Command("setcap", "-r", filepath.Join(c.root, c.entrypoint[0])).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := c.command(t, c.entrypoint, c.cmd...).CombinedOutput(); err == nil || !strings.Contains(string(out), "permission denied") {
		t.Errorf("without the file's capability: %v\n%s", err, out)
	}
	worked(t, b, mailturnAlone, "image and file for Compose, laid out and run in namespaces: health check, and a call by what Dovecot tells", "without the relay's address; without the file's capability")
}
