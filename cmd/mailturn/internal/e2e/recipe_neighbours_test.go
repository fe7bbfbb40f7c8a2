package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// frontOfDovecot adds the lines to a Dovecot that is otherwise as it is installed, and logs in through mailturn.
func frontOfDovecot(t *testing.T, _ documents, b recipe.Block) {
	const client = "127.0.0.2"
	eachDovecot(t, func(t *testing.T, version string, root *chroot.Root) {
		port, err := daemon.FreePort("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		oldnew := []string{"1143", strconv.Itoa(port)}
		if version == "2.3" {
			oldnew = append(oldnew, "listen =", "address =") // as the text says
		}
		lines := replaced(t, b, oldnew...)
		login := func(lines, from string) {
			t.Helper()
			d := startDovecot(t, dovecot.Options{Root: root, SSL: "yes", Settings: lines})
			defer d.Stop()
			p := startProxyWith(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "id")
			c, err := p.dialFrom(client, false)
			if err != nil {
				t.Fatal(err)
			}
			defer c.conn.Close()
			for _, command := range []string{"l LOGIN alice " + dovecot.Password, `m GETMETADATA "" ` + turnEntry} {
				if answer, err := c.command(command); err != nil || !strings.Contains(answer, " OK") {
					t.Errorf("%s is answered %q, %v", command, answer, err)
				}
			}
			waitForLog(t, d, "rip="+from+",")
		}
		login(lines, client)
		login(without(t, lines, "login_trusted_networks"), "127.0.0.1")
		worked(t, b, dovecotVersion(t, root), "in front of Dovecot "+version+" with its stock settings: a login and GETMETADATA, and the client's address in its log",
			"without login_trusted_networks")
	})
}

// dovecotVersion is the whole version, of this machine's or of a root.
func dovecotVersion(t *testing.T, root *chroot.Root) string {
	t.Helper()
	if root == nil {
		return "Dovecot " + programVersion(t, "dovecot", "--version")
	}
	cmd, err := root.Command(nil, "dovecot", "--version")
	if err != nil {
		t.Fatal(err)
	}
	return "Dovecot " + programVersion(t, cmd.Path, cmd.Args[1:]...)
}

// webClients runs the first line, with curl, and the second one in Node.js, where there is no WebRTC: it shows what a browser is
// given.
func webClients(t *testing.T, _ documents, b recipe.Block) {
	version := "curl " + programVersion(t, peer(t, "curl", "curl"), "--version") + ", Node.js " + programVersion(t, peer(t, "node", "nodejs"), "--version")
	more, state := freePorts(t), t.TempDir()
	config := configure(t, freePorts(t), "", "")
	configureDoor(t, config, fmt.Sprintf("endpoint \"http\" \"http\" {\n  listen = \"https://127.0.0.1:%d\"\n  api_keys = %q\n  turn_server = \"127.0.0.1\"\n}\n",
		more.turn, "a-key-of-the-end-to-end-tests"))
	start(t, state, "--config", config)
	curl, script, _ := strings.Cut(replaced(t, b, "turn.example.org:8443", fmt.Sprintf("localhost:%d", more.turn)), "\n")
	certificate := filepath.Join(state, "selfsigned.crt")
	run := func(key, name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "KEY="+key, "CURL_CA_BUNDLE="+certificate, "NODE_EXTRA_CA_CERTS="+certificate)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	const browser = "globalThis.RTCPeerConnection = class { constructor(c) { console.log(JSON.stringify(c)) } };\nconst key = process.env.KEY;\n"
	for key, good := range map[string]bool{"a-key-of-the-end-to-end-tests": true, "another": false} {
		if out := run(key, "bash", "-c", curl); strings.Contains(out, `"password"`) != good {
			t.Errorf("with the key %s curl gets %s", key, out)
		}
		if out := run(key, "node", "--input-type=module", "-e", browser+script); strings.Contains(out, `"iceServers"`) != good || strings.Contains(out, "credential") != good {
			t.Errorf("with the key %s the page gets %s", key, out)
		}
	}
	worked(t, b, version, "credentials over HTTP, for curl and a web page", "wrong key")
}

// otherRelays names the relays in the endpoint that issues, and has both of them told to some account.
func otherRelays(t *testing.T, _ documents, b recipe.Block) {
	file := filepath.Join(t.TempDir(), "turn1.secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	text := func(relays string) string {
		return fmt.Sprintf("hostname = \"localhost\"\nendpoint \"turn\" \"turn\" {\n  secret = %q\n}\nendpoint \"imap\" \"imap\" {\n  listen = \"tls://127.0.0.1:1993\"\n"+
			"  embedded {\n    users = { \"alice@localhost\" = \"wonderland\" }\n  }\n%s}\n", secret, relays)
	}
	relays := replaced(t, b, "/etc/mailturn/turn1.secret", file)
	path := filepath.Join(t.TempDir(), "maddy.conf")
	if err := os.WriteFile(path, []byte(text(relays)), 0o600); err != nil {
		t.Fatal(err)
	}
	told := make(map[string]bool)
	for i := 0; len(told) < 2 && i < 64; i++ {
		out, err := exec.Command(binary, "credentials", "--json", "--config", path, "--state-dir", t.TempDir(), "--user", fmt.Sprint("user", i)).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"turn1.example.org", "localhost"} {
			if strings.Contains(string(out), ":"+host+":") {
				told[host] = true
			}
		}
	}
	if len(told) != 2 {
		t.Errorf("users are told of %v alone", told)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if said, ok := checkConfig(t, text(relays)); ok {
		t.Errorf("check-config takes a secret that is not there:\n%s", said)
	}
	worked(t, b, mailturnAlone, "two relays, each told to some users", "without the file of the secret")
}

// besideCoturn runs coturn and mailturn on one machine, and relays with one credential through either.
func besideCoturn(t *testing.T, _ documents, b recipe.Block) {
	version := "coturn " + programVersion(t, peer(t, "turnserver", "coturn"), "--version")
	theirs, ours := freePorts(t), freePorts(t)
	startCoturn(t, exec.Command, "-n", "--use-auth-secret", "--static-auth-secret="+secret, "--realm=example.org", "--listening-ip=127.0.0.1", "--allow-loopback-peers",
		"--cli-password=x", "--no-cli", "--no-tls", "--no-dtls", "--listening-port="+strconv.Itoa(theirs.turn), "--min-port=49152", "--max-port=65535")
	file := filepath.Join(t.TempDir(), "turn.secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "maddy.conf")
	block := replaced(t, b, "0.0.0.0:3479", "127.0.0.1:"+strconv.Itoa(ours.turn), "198.51.100.7", "127.0.0.1", "/etc/mailturn/turn.secret", file)
	block = strings.Replace(block, "  relay_ip ", "  "+allowLoopback+"\n  relay_ip ", 1) // where the other side of the call is
	if err := os.WriteFile(config, []byte("hostname = \"example.org\"\n"+block), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, t.TempDir(), "--config", config)
	got := minted("127.0.0.1")
	wrong := got
	wrong.password = "wrong"
	for name, port := range map[string]int{"coturn": theirs.turn, "mailturn": ours.turn} {
		uclient(t, got, port, "-y", "-m", "2", "-n", "5").wantAllBack(t)
		if result := uclient(t, wrong, port, "-y", "-m", "2", "-n", "5"); result.received != 0 {
			t.Errorf("%s takes a wrong password:\n%s", name, result.output)
		}
	}
	worked(t, b, version, "one credential, good at coturn and at mailturn on the same machine", "wrong password")
}

// nginxInFront puts nginx in front of the HTTP endpoint with the documented location.
func nginxInFront(t *testing.T, _ documents, b recipe.Block) {
	version := "nginx " + programVersion(t, peer(t, "nginx", "nginx-light"), "-v")
	more := freePorts(t)
	config := configure(t, freePorts(t), "", "")
	configureDoor(t, config, fmt.Sprintf("endpoint \"http\" \"http\" {\n  listen = \"http://127.0.0.1:%d\"\n  api_keys = %q\n  turn_server = \"127.0.0.1\"\n"+
		"  trusted_proxies = [\"127.0.0.1/32\"]\n}\n", more.turn, apiKey))
	start(t, t.TempDir(), "--config", config)
	location := replaced(t, b, "127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", more.turn))
	startNginx(t, fmt.Sprintf("server {\n  listen 127.0.0.1:%d;\n  root /nonexistent;\n%s}\nserver {\n  listen 127.0.0.1:%d;\n  root /nonexistent;\n%s}\n",
		more.imap, location, more.imaps, replaced(t, b, "^/(turn|ice)$", "^/(nowhere)$", "127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", more.turn))))
	client := plainClient(t)
	for _, tt := range []struct {
		port int
		path string
		want int
	}{
		{more.imap, "/turn?service=turn&username=alice", http.StatusOK},
		{more.imap, "/ice", http.StatusOK},
		{more.imap, "/metrics", http.StatusNotFound},
		{more.imap, "/turn/../metrics", http.StatusNotFound},
		{more.imaps, "/turn?service=turn&username=alice", http.StatusNotFound},
	} {
		if got, body := ask(t, client, fmt.Sprintf("http://127.0.0.1:%d%s", tt.port, tt.path)); got != tt.want {
			t.Errorf("%s: status %d, want %d: %s", tt.path, got, tt.want, body)
		}
	}
	worked(t, b, version, "nginx in front of the HTTP endpoint: credentials pass, and metrics do not", "another location; metrics")
}

// kernelLimits makes sysctl read the file, and applies the settings of a network in a new network namespace.
func kernelLimits(t *testing.T, _ documents, b recipe.Block) {
	sysctl := peer(t, "sysctl", "procps")
	read := func(text string) (string, error) {
		file := filepath.Join(t.TempDir(), "mailturn.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(sysctl, "--dry-run", "--load="+file).CombinedOutput()
		return string(out), err
	}
	if out, err := read(b.Text); err != nil || strings.Count(out, " = ") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := read(replaced(t, b, "rmem_max", "rmem_maximum")); err == nil && !strings.Contains(out, "No such file") {
		t.Errorf("sysctl takes what the kernel does not have:\n%s", out)
	}
	worked(t, b, "procps "+programVersion(t, sysctl, "--version"), "sysctl reads the file, and the kernel has the settings", "a setting that does not exist")
}

// prometheusAlerts has Prometheus evaluate each expression on figures of a relay that is ill, and of one that is well.
func prometheusAlerts(t *testing.T, _ documents, b recipe.Block) {
	promtool := peer(t, "promtool", "prometheus")
	var rules, alerts bytes.Buffer
	rules.WriteString("groups:\n- name: mailturn\n  rules:\n")
	expressions := strings.Split(strings.TrimSpace(b.Text), "\n")
	for i, expression := range expressions {
		fmt.Fprintf(&rules, "  - alert: a%d\n    expr: '%s'\n", i, expression)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"rules.yml": rules.String(), "wrong.yml": strings.Replace(rules.String(), " > ", " >> ", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const series = `rule_files: [rules.yml]
evaluation_interval: 1m
tests:
- interval: 1m
  input_series:
  - {series: 'up{job="mailturn"}', values: '%[1]dx120'}
  - {series: 'mailturn_turn_allocations_refused_total{endpoint="turn",reason="no_port"}', values: '0+%[2]dx120'}
  - {series: 'mailturn_turn_allocations_refused_total{endpoint="turn",reason="total_quota"}', values: '0+%[2]dx120'}
  - {series: 'mailturn_turn_allocations_refused_total{endpoint="turn",reason="credentials"}', values: '0+%[2]dx120'}
  - {series: 'mailturn_turn_allocations_made_total{endpoint="turn"}', values: '0+1x120'}
  - {series: 'process_open_fds{job="mailturn"}', values: '%[3]dx120'}
  - {series: 'mailturn_turn_engine_up{endpoint="turn"}', values: '%[1]dx120'}
  - {series: 'process_max_fds{job="mailturn"}', values: '100x120'}
  - {series: 'mailturn_conntrack_entries', values: '%[3]dx120'}
  - {series: 'mailturn_conntrack_entries_limit', values: '100x120'}
  - {series: 'mailturn_certificate_expiry_timestamp_seconds{endpoint="imap",file="a.pem",kind="imap"}', values: '%[5]dx120'}
  - {series: 'mailturn_cluster_outage{part="limits"}', values: '%[2]dx120'}
  - {series: 'mailturn_cluster_relays{state="serving"}', values: '3x120'}
  - {series: 'mailturn_cluster_relays{state="unreachable"}', values: '%[2]dx120'}
  - {series: 'mailturn_turn_pion_failures_total{endpoint="turn"}', values: '0+%[2]dx120'}
  alert_rule_test:
%[4]s`
	for i := range expressions {
		fmt.Fprintf(&alerts, "  - {eval_time: 90m, alertname: a%d, exp_alerts: [PLACE]}\n", i)
	}
	evaluate := func(name, text string) (string, error) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(promtool, "test", "rules", path).CombinedOutput()
		return string(out), err
	}
	none := strings.ReplaceAll(alerts.String(), "PLACE", "")
	if out, err := evaluate("well.yml", fmt.Sprintf(series, 1, 0, 10, none, 30*24*3600)); err != nil {
		t.Errorf("of a relay that is well: %v\n%s", err, out)
	}
	out, err := evaluate("ill.yml", fmt.Sprintf(series, 0, 2, 90, none, 24*3600))
	for i, expression := range expressions {
		if err == nil || !strings.Contains(out, fmt.Sprintf("alertname: a%d,", i)) {
			t.Errorf("%s is no alert for a relay that is ill: %v\n%s", expression, err, out)
		}
	}
	if out, err := exec.Command(promtool, "check", "rules", filepath.Join(dir, "wrong.yml")).CombinedOutput(); err == nil {
		t.Errorf("promtool takes a wrong expression:\n%s", out)
	}
	worked(t, b, "Prometheus "+programVersion(t, promtool, "--version"), "alerts, of a relay that is ill", "a relay that is well; a wrong expression")
}
