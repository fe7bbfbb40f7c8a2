package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// export runs mailturn export and writes what it prints to a file.
func export(t *testing.T, neighbour, config string) (path, text string) {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.Command(binary, "export", neighbour, "--config", config, "--state-dir", t.TempDir())
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("export %s: %v\n%s", neighbour, err, &stderr)
	}
	path = filepath.Join(t.TempDir(), neighbour)
	if err := os.WriteFile(path, output, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, string(output)
}

// TestExportCoturn runs coturn with the file that is exported for it: it has to take our credentials, in our realm, and to
// relay on our ports.
func TestExportCoturn(t *testing.T) {
	t.Parallel()
	p := freePorts(t)
	path, text := export(t, "coturn", configure(t, p, allowLoopback, ""))
	coturn := startCoturn(t, exec.Command, "-c", path)
	// Before 4.17 coturn has DTLS without the directive, which it does not know.
	complaints := strings.ReplaceAll(coturn.Log(), "Bad configuration format: dtls", "")
	for _, complaint := range []string{"Bad configuration", "CONFIG ERROR", "Wrong address", "unrecognized option"} {
		if strings.Contains(complaints, complaint) {
			t.Errorf("coturn does not like its file: %s\n%s", complaint, text)
		}
	}
	uclient(t, minted("127.0.0.1"), p.turn, "-y", "-m", "2", "-n", "5").wantAllBack(t)
	wrong := minted("127.0.0.1")
	wrong.password = "wrong"
	if result := uclient(t, wrong, p.turn, "-y", "-m", "2", "-n", "5"); result.received != 0 {
		t.Errorf("coturn takes a wrong password:\n%s", result.output)
	}
}

// TestExportDovecot has Dovecot's own parser read the lines.
func TestExportDovecot(t *testing.T) {
	doveconf := peer(t, "doveconf", "dovecot-core")
	config := configure(t, freePorts(t), "", "")
	configureDoor(t, config, "endpoint \"dict\" \"dovecot\" {\n  path = \"/run/mailturn/dict.socket\"\n  turn_server = \"127.0.0.1\"\n}\n")
	path, _ := export(t, "dovecot", config)
	output, err := exec.Command(doveconf, "-n", "-c", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, want := range []string{"mail_attribute_dict = proxy:/run/mailturn/dict.socket:metadata", "imap_metadata = yes"} {
		if !strings.Contains(string(output), want) {
			t.Errorf("Dovecot does not read %q:\n%s", want, output)
		}
	}
}

// TestExportNftables has nft check the rules, in a network of its own where that is allowed.
func TestExportNftables(t *testing.T) {
	nft := peer(t, "nft", "nftables")
	config := filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf("hostname = \"localhost\"\nendpoint \"turn\" \"turn\" {\n  secret = %q\n}\n", secret)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	path, rules := export(t, "nftables", config)
	if !strings.Contains(rules, "49152-65535") {
		t.Errorf("the relay's ports are not there: %s", rules)
	}
	output, err := exec.Command("unshare", "-rn", nft, "-c", "-f", path).CombinedOutput()
	if err != nil && strings.Contains(string(output), "unshare") {
		output, err = exec.Command(nft, "-c", "-f", path).CombinedOutput()
	}
	if strings.Contains(string(output), "Operation not permitted") {
		lacks(t, "nft may not ask the kernel here: %s", output)
	}
	if err != nil {
		t.Errorf("%v\n%s\n%s", err, output, rules)
	}
}
