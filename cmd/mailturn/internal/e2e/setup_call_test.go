package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/deltachat"
)

// serveAuthority runs Pebble, a certificate authority, on the machine. It returns the URL of its directory, and the file in which the
// machine has the certificate to trust for that. root returns the roots of the certificates that it issues.
func (s mailServer) serveAuthority(t *testing.T) (directory, caFile string, root func() *x509.CertPool) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "pebble")
	build := exec.Command("go", "build", "-o", program, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	build.Dir = "acme" // whose module has it
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build Pebble: %v\n%s", err, out)
	}
	own := newCertificatesFor(t, authorityName)
	config := filepath.Join(dir, "pebble.json")
	text := fmt.Sprintf(`{"pebble": {"listenAddress": "%[1]s:14000", "managementListenAddress": "%[1]s:15000", "certificate": %[2]q, "privateKey": %[3]q,
  "httpPort": 80, "tlsPort": 443, "keyAlgorithm": "ecdsa", "retryAfter": {"authz": 1, "order": 1}}}`, mailAddress, own.cert, own.key)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", "--net", "--target="+s.leader, program, "-config", config, "-dnsserver", "127.0.0.1:53")
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	pebble, err := daemon.Start(t.Context(), cmd, "ACME directory available")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pebble.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("Pebble:\n%s", pebble.Log())
		}
	})
	caFile = "/usr/local/share/ca-certificates/pebble.crt"
	s.copy(t, own.ca, caFile)
	return "https://" + authorityName + ":14000/dir", caFile, func() *x509.CertPool {
		t.Helper()
		client := http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: own.roots},
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				return s.dial(t, "15000")
			},
		}}
		response, err := client.Get("https://" + authorityName + ":15000/roots/0")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		pool := x509.NewCertPool()
		if err != nil || !pool.AppendCertsFromPEM(text) {
			t.Fatalf("the root of Pebble: %v in %q", err, text)
		}
		return pool
	}
}

// serveSubmission accepts whatever is submitted to a port of the machine, so that a mail client can be configured.
func (s mailServer) serveSubmission(t *testing.T) (port int) {
	t.Helper()
	var listener net.Listener
	var err error
	s.inNetwork(t, func() { listener, err = net.Listen("tcp", net.JoinHostPort(mailAddress, "0")) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprint(conn, "220 "+hostName+"\r\n")
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					answer := "250 OK"
					switch verb, _, _ := strings.Cut(strings.ToUpper(lines.Text()), " "); verb {
					case "EHLO":
						answer = "250-" + hostName + "\r\n250 AUTH PLAIN"
					case "AUTH":
						answer = "235 OK"
					}
					fmt.Fprint(conn, answer+"\r\n")
				}
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// discover has Delta Chat log in to the mail server and returns the relay that it would use in a call.
func (s mailServer) discover(t *testing.T, visitors namespace, name string, submission int) (server iceServer, version string) {
	t.Helper()
	u := (&mailHost{clients: visitors}).newDeltaChat(t, name)
	before := u.Core().Now()
	u.do(t, func(ctx context.Context) error {
		return u.AddTransport(ctx, deltachat.Transport{
			Addr: name + "@" + hostName, Password: "wonderland",
			IMAPServer: hostName, IMAPPort: 993, IMAPSecurity: deltachat.TLS, IMAPUser: name,
			SMTPServer: hostName, SMTPPort: submission, SMTPSecurity: deltachat.Plain, SMTPUser: name, SMTPPassword: "wonderland",
			CertificateChecks: deltachat.AcceptInvalid, // it does not know the root of Pebble, which the test checks itself
		})
	})
	u.wait(t, before, "IMAP to be idle", kind("ImapInboxIdle"))
	servers := u.iceServers(t)
	want := "turn:" + net.JoinHostPort(mailAddress, "3478")
	if len(servers) != 1 || len(servers[0].URLs) != 1 || servers[0].URLs[0] != want {
		t.Fatalf("%s has the ICE servers %+v, want %s alone", name, servers, want)
	}
	return iceServer{want, servers[0].Username, servers[0].Credential}, u.core
}

// A shown is what TestSetupToCall has seen on a release of Debian.
type shown struct {
	system, dovecot, core string
	install, setup        time.Duration
	made                  int // connections during the change-over
	slowest               time.Duration
	call                  []string // what each browser has received
	undo, purge           time.Duration
}

// TestSetupToCall takes a Debian with nothing but a Dovecot to a call, with two commands: mailturn obtains the certificate from an
// authority, Delta Chat core discovers the relay over IMAP, and two browsers, if MAILTURN_SETUP_TABLE names a file for the results,
// make a call with the credentials that it has got. Then everything is undone.
func TestSetupToCall(t *testing.T) {
	table := os.Getenv("MAILTURN_SETUP_TABLE")
	roots := []string{"bookworm-systemd"}
	if table != "" {
		roots = append(roots, "trixie-systemd")
	} else {
		t.Parallel()
	}
	var all []shown
	for _, root := range roots {
		t.Run(root, func(t *testing.T) { all = append(all, setupToCall(t, root, table != "")) })
	}
	if table != "" && !t.Failed() {
		writeShown(t, table, all)
	}
}

func setupToCall(t *testing.T, root string, browsers bool) (r shown) {
	deb := release(t, "mailturn_*_"+runtime.GOARCH+".deb")
	s := bootDovecot(t, root, deb)
	visitors := s.visitors(t)
	directory, caFile, pebbles := s.serveAuthority(t)
	submission := s.serveSubmission(t)
	s.run(t, "echo "+hostName+" >/etc/mailname")
	r.system = strings.TrimSpace(s.run(t, `. /etc/os-release; echo "$NAME $(cat /etc/debian_version)"`))
	r.dovecot = strings.Fields(s.run(t, "dovecot --version"))[0]

	state := func() string {
		t.Helper()
		return s.run(t, "doveconf -n; find /etc -xdev -type f ! -name '*-' ! -name .pwd.lock | sort | xargs -d '\\n' sha256sum; ("+files+") | grep -v '^/home/\\|^/var/mail/'") + s.login(t).command(t, "CAPABILITY")
	}
	before := state() // without the users' mail
	timed := func(script string) time.Duration {
		t.Helper()
		began := time.Now()
		s.run(t, script)
		return time.Since(began)
	}
	r.install = timed("DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet ./mailturn_*.deb")
	began := time.Now()
	out, w := s.setUp(t, "mailturn setup --yes --email postmaster@"+hostName+" --agree-to-terms --acme-directory "+directory+" --acme-ca "+caFile+" </dev/null")
	r.setup, r.made, r.slowest = time.Since(began), w.made, w.slowest
	t.Logf("installation took %v, and setup %v, with %d connections during the change-over, at most %v each", r.install, r.setup, w.made, w.slowest)
	if !strings.Contains(out, "Done.") || len(w.refused) > 0 {
		t.Errorf("%d connections are refused, and setup says\n%s", len(w.refused), out)
	}

	trusting := s
	trusting.roots = pebbles()
	if told := trusting.login(t).command(t, askRelay); !strings.Contains(told, hostName+":3478:") {
		t.Errorf("a client is told %q", told)
	}
	first, core := s.discover(t, visitors, "user1", submission)
	second, _ := s.discover(t, visitors, "user2", submission)
	r.core = core
	if first.Username == second.Username {
		t.Errorf("two users have the credential %s", first.Username)
	}
	if browsers {
		r.call = callThrough(t, visitors, first, second)
	}

	r.undo = timed("mailturn setup --undo")
	s.login(t).command(t, "NOOP")
	r.purge = timed("apt-get purge --yes --quiet mailturn")
	if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(state(), "\n")); diff != "" {
		t.Errorf("Dovecot and the machine: -before +after undo and a purge\n%s", diff)
	}
	return r
}

// callThrough makes a call between Chromium and Firefox, and says what each has received.
func callThrough(t *testing.T, visitors namespace, first, second iceServer) (says []string) {
	t.Helper()
	alice, bob := startBrowser(t, browser.Chromium, visitors, ""), startBrowser(t, browser.Firefox, visitors, "")
	videoCall(t, alice, bob, []iceServer{first}, []iceServer{second})
	for _, u := range []participant{alice, bob} {
		u.do(t, nil, "received", framesWanted, audioPacketsWanted)
	}
	for _, u := range []participant{alice, bob} {
		report := u.report(t)
		report.wantRelayed(t, u.kind, "udp")
		received, lost := report.packets()
		says = append(says, fmt.Sprintf("%s %s: %d packets of audio and video, %d lost", u.name(), u.version, received, lost))
	}
	return says
}

// writeShown writes docs/setup.md.
func writeShown(t *testing.T, path string, all []shown) {
	t.Helper()
	var out strings.Builder
	commit, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		t.Fatal(err)
	}
	out.WriteString(`# From a bare Debian to a call

` + "`.ci/full setup`" + ` writes this file. Each machine is a Debian that debootstrap has made, with systemd, Dovecot as the package configures
it, and ten users, in a container with a network of its own. No certificate on it can be used, so mailturn obtains one from Pebble, the
test server of Let's Encrypt. Exactly two commands run there: ` + "`apt install ./mailturn_*.deb`" + `, and
` + "`mailturn setup --yes --email … --agree-to-terms`" + ` with the flags that name this authority.

Delta Chat then discovers the relay over IMAP for two accounts, and two browsers make a call with these credentials; ICE may use only
relayed candidates. While mailturn takes over the port of IMAP, a client connects every five milliseconds, and no connection may be
refused; one that takes a second has met a full queue, and TCP has tried again. After ` + "`mailturn setup --undo`" + ` and ` + "`apt purge`" + `, every
file in /etc, the list of all files, users and groups, what doveconf prints, and the capabilities that Dovecot announces are the same as
before.

`)
	fmt.Fprintf(&out, "Measured on %s, commit %s, %s, %d cores.\n\n", time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(string(commit)),
		strings.TrimSpace(string(kernel)), runtime.NumCPU())
	row := func(name string, value func(shown) string) {
		fmt.Fprintf(&out, "| %s |", name)
		for _, r := range all {
			fmt.Fprintf(&out, " %s |", value(r))
		}
		out.WriteByte('\n')
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
	row("", func(r shown) string { return r.system })
	row("---", func(shown) string { return "---" })
	row("Dovecot", func(r shown) string { return r.dovecot })
	row("`apt install`", func(r shown) string { return seconds(r.install) })
	row("`mailturn setup`, with a certificate from the authority", func(r shown) string { return seconds(r.setup) })
	row("connections while mailturn takes over the ports", func(r shown) string {
		return fmt.Sprintf("%d, none refused, the slowest after %d ms", r.made, r.slowest.Milliseconds())
	})
	row("discovers the relay", func(r shown) string { return r.core })
	row("the call", func(r shown) string { return strings.Join(r.call, "; ") })
	row("`mailturn setup --undo`", func(r shown) string { return seconds(r.undo) })
	row("`apt purge`", func(r shown) string { return seconds(r.purge) })
	if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
