package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/framework/certs"
)

// export runs mailturn export, with a certificate of an earlier run, and writes what it prints to a file.
func export(t *testing.T, neighbour, config string) (path, text string) {
	t.Helper()
	stateDir := t.TempDir()
	if _, _, err := certs.SelfSigned(stateDir, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.Command(binary, "export", neighbour, "--config", config, "--state-dir", stateDir)
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

// TestExportCoturn runs coturn with the file that is exported for it, and checks that it accepts our credentials, in our realm, and
// relays on our ports.
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

// TestExportDovecot parses the lines exported for the installed version with Dovecot's own parser.
func TestExportDovecot(t *testing.T) {
	t.Parallel()
	eachDovecot(t, func(t *testing.T, version string, root *chroot.Root) {
		command := func(program string, args ...string) *exec.Cmd {
			if root == nil {
				return exec.Command(program, args...)
			}
			cmd, err := root.Command(nil, program, args...)
			if err != nil {
				t.Fatal(err)
			}
			return cmd
		}
		for clientAddress, setting := range map[string]string{"id": "login_trusted_networks", "proxy2": "haproxy_trusted_networks"} {
			config := filepath.Join(t.TempDir(), "maddy.conf")
			text := fmt.Sprintf(`
endpoint "imap" "imap" {
  listen = "tls://127.0.0.1:993"
  upstream {
    address        = "tcp://127.0.0.1:1143"
    client_address = %q
  }
  turn_server = "127.0.0.1"
  turn_secret = %q
}
endpoint "dict" "dovecot" {
  path        = "/run/mailturn/dict.socket"
  turn_server = "127.0.0.1"
  turn_secret = %q
}
`, clientAddress, secret, secret)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			lines, err := command(binary, "export", "dovecot", "--config", config, "--state-dir", t.TempDir()).Output()
			if err != nil {
				t.Fatal(err)
			}
			wants := []string{setting + " = 127.0.0.1", "port = 1143", "imap_metadata = yes"}
			head := ""
			if version == "2.4" {
				head = "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"
				wants = append(wants, "listen = 127.0.0.1", "socket_path = /run/mailturn/dict.socket")
			} else {
				wants = append(wants, "address = 127.0.0.1", "mail_attribute_dict = proxy:/run/mailturn/dict.socket:metadata")
			}
			path := filepath.Join(t.TempDir(), "dovecot.conf")
			if err := os.WriteFile(path, []byte(head+string(lines)), 0o600); err != nil {
				t.Fatal(err)
			}
			output, err := command("doveconf", "-n", "-c", path).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, output, lines)
			}
			for _, want := range wants {
				if !strings.Contains(string(output), want) {
					t.Errorf("Dovecot does not read %q:\n%s", want, output)
				}
			}
		}
	})
}

// TestExportNftables checks the rules with nft, in a network namespace if allowed.
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
