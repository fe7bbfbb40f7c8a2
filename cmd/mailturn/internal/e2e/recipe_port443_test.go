package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
)

// portHeading is the heading of the recipe in docs/port443.md.
const portHeading = "Move the web server to another port"

// onePort443 shares a port between two endpoints and nginx, which is configured as documented, and connects to it with the clients of
// each. The "http" endpoint is added for those of HTTP.
func onePort443(t *testing.T, d documents, b recipe.Block) {
	version := "nginx " + programVersion(t, peer(t, "nginx", "nginx-light"), "-v")
	curl := peer(t, "curl", "curl")
	ours, theirs := newCertificatesFor(t, "mail.example.org", "api.example.org"), newCertificatesFor(t, "www.example.org")
	p, more := freePorts(t), freePorts(t)
	startNginx(t, movedServer(t, d.find(t, "docs/port443.md", portHeading, "server {"), more.imap, theirs))
	upstream := configure(t, freePortsWith(t, &more.imaps), "", "")
	start(t, t.TempDir(), "--config", upstream)
	config := filepath.Join(t.TempDir(), "maddy.conf")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `
hostname = "mail.example.org"
tls {
  cert = %q
  key  = %q
}
%s
endpoint "http" "http" {
  listen = "tls://127.0.0.1:%d"
}
`, ours.cert, ours.key, strings.NewReplacer(`endpoint "turn" "turn" {`, fmt.Sprintf("endpoint \"turn\" \"turn\" {\n  secret = %q\n  relay_ip = \"127.0.0.1\"", secret)).Replace(replaced(t, b,
		"0.0.0.0:443", fmt.Sprintf("127.0.0.1:%d", p.imaps), "127.0.0.1:8443", fmt.Sprintf("127.0.0.1:%d", more.imap),
		"0.0.0.0:3478", fmt.Sprintf("127.0.0.1:%d", p.turn), "0.0.0.0:5349", fmt.Sprintf("127.0.0.1:%d", p.turns),
		"0.0.0.0:993", fmt.Sprintf("127.0.0.1:%d", more.turn), "0.0.0.0:143", fmt.Sprintf("127.0.0.1:%d", p.imap),
		"127.0.0.1:1143", fmt.Sprintf("127.0.0.1:%d", more.imaps))), p.imaps), 0o600))
	s := start(t, t.TempDir(), "--config", config)

	fetch := func(roots certificates, host, path string, options ...string) string {
		t.Helper()
		url := fmt.Sprintf("https://%s:%d%s", host, p.imaps, path)
		args := append([]string{"-sS", "--max-time", "10", "--cacert", roots.ca, "--connect-to", fmt.Sprintf("%s:%d:127.0.0.1:%[2]d", host, p.imaps),
			"-w", " HTTP/%{http_version} %{redirect_url}", url}, options...)
		out, err := exec.Command(curl, args...).CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return string(out)
	}
	for _, tt := range []struct{ name, got, want string }{
		{"the web site", fetch(theirs, "www.example.org", "/", "--interface", "127.0.0.2"), "nginx for 127.0.0.2 HTTP/2 "},
		{"the port, for applications", fetch(theirs, "www.example.org", "/port"), fmt.Sprintf("%d HTTP/2", p.imaps)},
		{"a redirect of the web server", fetch(theirs, "www.example.org", "/directory"), "https://www.example.org/directory/"},
		{"the endpoint, HTTP/2", fetch(ours, "mail.example.org", "/healthz"), `{"status":"ok"}`},
		{"the endpoint, without ALPN", fetch(ours, "api.example.org", "/healthz", "--no-alpn"), `{"status":"ok"}`},
		{"HTTP without TLS", fetch(theirs, "www.example.org", "/", fmt.Sprintf("http://www.example.org:%d/", p.imaps), "--next", "-o", "/dev/null"), "plain HTTP request was sent to HTTPS port"},
	} {
		if !strings.Contains(tt.got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, tt.got, tt.want)
		}
	}
	for name, options := range map[string][]string{"ALPN": {"-alpn", "imap"}, "no ALPN": nil, "no ALPN, TLS 1.2": {"-tls1_2"}} {
		transcript := imapSession(t, p.imaps, ours.ca, append(options, "-servername", "mail.example.org"),
			"a LOGIN alice@example.org wonderland", `b GETMETADATA "" (/shared/vendor/deltachat/turn /shared/vendor/deltachat/turns)`, "c LOGOUT")
		if value := metadata(t, transcript, "/shared/vendor/deltachat/turn"); !strings.HasPrefix(value, "mail.example.org:") {
			t.Errorf("IMAP, %s: %s", name, value)
		}
	}
	for name, alpn := range map[string][]string{"ALPN": {"stun.turn"}, "no ALPN": nil} {
		if err := relayOver(t, p.imaps, ours, alpn); err != nil {
			t.Errorf("TURN, %s: %v", name, err)
		}
	}
	if err := relayOver(t, more.imap, ours, nil); err == nil {
		t.Error("the web server relays")
	}
	s.waitFor(t, s.stderr, "sharing a port")
	portWorked(t, b, version)
}

// freePortsWith returns free ports, the plain IMAP port of which is that of a caller.
func freePortsWith(t *testing.T, imap *int) ports {
	t.Helper()
	p := freePorts(t)
	p.imap = *imap
	return p
}

// movedServer returns the documented server on a port, with what the recipe leaves out.
func movedServer(t *testing.T, b recipe.Block, port int, c certificates) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "directory"), 0o700))
	return replaced(t, b, "127.0.0.1:8443", fmt.Sprintf("127.0.0.1:%d", port)) + fmt.Sprintf(`
  ssl_certificate %s;
  ssl_certificate_key %s;
  root %s;
  location = / {
    return 200 "nginx for $remote_addr";
  }
  location = /port {
    return 200 $proxy_protocol_server_port;
  }
}
`, c.cert, c.key, root)
}

// relayOver makes an allocation over TLS, and refreshes it.
func relayOver(t *testing.T, port int, c certificates, alpn []string) error {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", fmt.Sprintf("127.0.0.1:%d", port),
		&tls.Config{ServerName: "mail.example.org", RootCAs: c.roots, NextProtos: alpn})
	if err != nil {
		return err
	}
	credential := minted("")
	client := turnclient.New(turnclient.Config{Conn: conn, Stream: true, Username: credential.username, Password: credential.password})
	defer client.Close()
	if _, err := client.Challenge(t.Context()); err != nil {
		return err
	}
	if _, err := client.Allocate(t.Context()); err != nil {
		return err
	}
	_, err = client.Refresh(t.Context(), time.Minute)
	return err
}

// webServerMoves checks that nginx takes the documented server, which believes what a PROXY header says.
func webServerMoves(t *testing.T, _ documents, b recipe.Block) {
	version := "nginx " + programVersion(t, peer(t, "nginx", "nginx-light"), "-v")
	curl := peer(t, "curl", "curl")
	c, p := newCertificatesFor(t, "www.example.org"), freePorts(t)
	startNginx(t, movedServer(t, b, p.imap, c))
	get := func(options ...string) (string, error) {
		out, err := exec.Command(curl, append([]string{"-sS", "--max-time", "10", "--cacert", c.ca, "--connect-to", fmt.Sprintf("www.example.org:%d:127.0.0.1:%[1]d", p.imap),
			fmt.Sprintf("https://www.example.org:%d/", p.imap)}, options...)...).CombinedOutput()
		return string(out), err
	}
	if got, err := get("--haproxy-protocol"); err != nil || got != "nginx for 127.0.0.1" {
		t.Errorf("with a header: %q, %v", got, err)
	}
	if got, err := get(); err == nil {
		t.Errorf("without a header: %q", got)
	}
	portWorked(t, b, version)
}

// portCommands runs the checks of the recipe, which find a web server that leads back to the port.
func portCommands(t *testing.T, d documents, b recipe.Block) {
	nginx := peer(t, "nginx", "nginx-light")
	shared := d.find(t, "docs/port443.md", portHeading, "shared_port")
	c, p := newCertificatesFor(t, "www.example.org"), freePorts(t)
	dir := t.TempDir()
	conf, maddy := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "maddy.conf")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, "pid %s/pid;\nerror_log stderr;\nevents {}\nhttp {\n%s}\n", dir,
		movedServer(t, d.find(t, "docs/port443.md", portHeading, "server {"), p.imap, c)), 0o600))
	commands := replaced(t, b, "sudo ", "", "mailturn check-config", binary+" check-config", "/etc/mailturn/maddy.conf", maddy,
		"nginx -t", fmt.Sprintf("%s -t -e stderr -c %s", nginx, conf), "systemctl reload nginx\n", "true\n", "mailturn upgrade", "true")
	check := func(text string) (string, error) {
		must(t, os.WriteFile(maddy, []byte("hostname = \"localhost\"\n"+text), 0o600))
		out, err := exec.Command("sh", "-ec", commands).CombinedOutput()
		return string(out), err
	}
	if said, err := check(shared.Text); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := check(replaced(t, shared, "127.0.0.1:8443", "127.0.0.1:443")); err == nil || !strings.Contains(said, "Fallback is a shared port") {
		t.Errorf("a fallback to the shared port itself: %v: %s", err, said)
	}
	portWorked(t, b, "nginx "+programVersion(t, nginx, "-v"))
}

// portWorked records that the recipe works. All of its parts have one row.
func portWorked(t *testing.T, b recipe.Block, version string) {
	t.Helper()
	worked(t, b, version, "nginx moves to another port: one port for it and for the IMAP, TURN and HTTP endpoints; curl, openssl, and TURN over TLS, with and without ALPN",
		"no PROXY header; a fallback that is the port itself")
}
