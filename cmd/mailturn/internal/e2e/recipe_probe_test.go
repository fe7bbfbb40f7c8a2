package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// outside is a network with a server at one end and a probe at the other, with the server's name server and certificate.
type outside struct {
	network
	dir, certificate string
}

// startOutside runs a mailturn with the documentation's names.
func startOutside(t *testing.T) outside {
	t.Helper()
	o := outside{network: newNetwork(t), dir: t.TempDir()}
	o.nameServer(t, map[string][]string{"mail.example.org": {serverIPv4}, "turn.example.org": {serverIPv4, serverIPv6}})
	etc := filepath.Join("/etc/netns", string(o.client)) // ip netns exec puts what is in it over /etc
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(etc)
		os.Remove(filepath.Dir(etc)) // unless there are others
	})
	config := filepath.Join(o.dir, "maddy.conf")
	text := strings.NewReplacer("mail.test", "mail.example.org", "turn.test", "turn.example.org").Replace(siteText(publicRelay, "", ""))
	for path, text := range map[string]string{
		filepath.Join(etc, "resolv.conf"): "nameserver " + serverIPv4 + "\n", config: text, filepath.Join(o.dir, "turn.secret"): secret,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	state := t.TempDir()
	o.certificate = filepath.Join(state, "selfsigned.crt")
	startCommand(t, o.server.command(binary, "run", "--state-dir", state, "--config", config))
	return o
}

// probe runs a command of the documentation where the probing is done, in which mailturn is installed.
func (o outside) probe(t *testing.T, command string) (output string, err error) {
	t.Helper()
	cmd := o.client.command("bash", "-ec", command)
	cmd.Dir = o.dir
	cmd.Env = append(os.Environ(), "MAILTURN_PASSWORD=wonderland", "SSL_CERT_FILE="+o.certificate, "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const connects = "OK  A call would connect."

// probeAccount probes a good server with an account, and then one whose firewall is closed.
func probeAccount(t *testing.T, _ documents, b recipe.Block) {
	o := startOutside(t)
	if out, err := o.probe(t, b.Text); err != nil || !strings.HasPrefix(out, connects) {
		t.Errorf("%v\n%s", err, out)
	}
	o.server.firewall(t, `iifname "eth0" udp dport 49152-65535 drop`)
	if out, err := o.probe(t, b.Text); err == nil || !strings.Contains(strings.Join(strings.Fields(out), " "), "relay ports are closed") {
		t.Errorf("with a closed firewall: %v\n%s", err, out)
	}
	worked(t, b, mailturnAlone, "probe with an account, by the name server and the certificates of the system", "the relay's ports closed")
}

// probeSecret probes the relay alone, and then with another secret.
func probeSecret(t *testing.T, _ documents, b recipe.Block) {
	o := startOutside(t)
	if out, err := o.probe(t, b.Text); err != nil || !strings.HasPrefix(out, connects) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := o.probe(t, "echo another >turn.secret\n"+b.Text); err == nil || !strings.Contains(out, "another secret") {
		t.Errorf("with another secret: %v\n%s", err, out)
	}
	worked(t, b, mailturnAlone, "probe of a relay with its secret", "another secret")
}

// mailturnAlone is the version of recipes that involve no other program.
const mailturnAlone = "mailturn alone"

// withPublicAddress is installed with a relay that has its own address, as on a server.
func withPublicAddress(t *testing.T, d documents, log string) machine {
	t.Helper()
	m := configured(t, d, log+strings.Replace(production, `relay_ip = "127.0.0.1"`, `relay_ip = "`+serverIPv4+`"`, 1))
	if out, err := exec.Command("nsenter", "--net", "--target="+m.leader, "ip", "address", "add", serverIPv4+"/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.run(t, startUnit)
	return m
}

// loadRelay loads the relay of a machine, and then one whose secret has been replaced.
func loadRelay(t *testing.T, d documents, b recipe.Block) {
	m := withPublicAddress(t, d, "")
	if out := m.run(t, b.Text); !strings.Contains(out, "allocations  200, ") {
		t.Errorf("the load was\n%s", out)
	}
	m.fails(t, "echo another >/var/lib/mailturn/turn.secret\n"+b.Text, "401")
	worked(t, b, mailturnAlone, "load of 200 allocations on the relay of a machine", "another secret")
}

// countUsers has four users on a relay, and asks the journal.
func countUsers(t *testing.T, d documents, b recipe.Block) {
	const users = "mailturn probe --load 4 --duration 1s --secret-file /var/lib/mailturn/turn.secret turn:127.0.0.1 >/dev/null\nset +o pipefail\n"
	count := func(m machine) (lines int) {
		t.Helper()
		return strings.Count(m.run(t, users+b.Text), "allocation.account=")
	}
	m := withPublicAddress(t, d, "log {\n  level = \"debug\"\n}\n")
	if got := count(m); got != 4 {
		t.Errorf("%d users are counted, want 4; the journal:\n%s", got, m.journal())
	}
	if got := count(withPublicAddress(t, d, "")); got != 0 {
		t.Errorf("%d users are counted in a log without them", got)
	}
	worked(t, b, m.systemdVersion(t), "users of a relay counted in the journal", "a log that is not at debug")
}
