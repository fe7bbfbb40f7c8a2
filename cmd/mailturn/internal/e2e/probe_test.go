package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/probe"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// probeLimit is how long one probe may take on a loaded machine.
const probeLimit = 2 * time.Minute

// runProbe runs the command in a namespace, or outside of any if ns is empty, and returns its report. The exit status
// must agree with it, and the output must not contain a password.
func runProbe(t *testing.T, ns namespace, password string, args ...string) *probe.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), probeLimit)
	defer cancel()
	args = append([]string{"probe", "--json"}, args...)
	cmd := exec.CommandContext(ctx, binary, args...)
	if ns != "" {
		cmd = exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", string(ns), binary}, args...)...)
	}
	cmd.Env = append(os.Environ(), "MAILTURN_PASSWORD="+password)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var report probe.Report
	if decodeErr := json.Unmarshal(stdout.Bytes(), &report); decodeErr != nil {
		t.Fatalf("probe %s: %v, %v\n%s%s", strings.Join(args, " "), err, decodeErr, &stdout, &stderr)
	}
	status := 0
	if exit, failed := errors.AsType[*exec.ExitError](err); failed {
		status = exit.ExitCode()
	}
	if status != report.ExitStatus() || stderr.Len() > 0 {
		t.Errorf("exit status %d with the verdict %s, on stderr %q", status, report.Verdict.Status, &stderr)
	}
	if len(password) > len(dovecot.Password) && strings.Contains(stdout.String(), password) || base64Password.Match(stdout.Bytes()) {
		t.Errorf("a password is in the report:\n%s", &stdout)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var text strings.Builder
			report.WriteText(&text, false, true)
			t.Logf("probe %s\n%s", strings.Join(args, " "), &text)
		}
	})
	return &report
}

// base64Password is what the password of an issued credential looks like.
var base64Password = regexp.MustCompile(`[A-Za-z0-9+/]{27}=`)

// wantVerdict checks that the verdict is about the check, and has text and an action.
func wantVerdict(t *testing.T, r *probe.Report, check string, status probe.Status, text string) {
	t.Helper()
	if r.Verdict.Status != status || !strings.Contains(r.Verdict.Text, text) {
		t.Errorf("got the verdict %s: %s\nwant %s with %q", r.Verdict.Status, r.Verdict.Text, status, text)
	}
	if status == probe.OK {
		return
	}
	if r.Verdict.Action == "" {
		t.Errorf("%q names no action", r.Verdict.Text)
	}
	for _, c := range r.Checks {
		if c.ID == check && c.Status == status && strings.Contains(r.Verdict.Text, c.Summary) {
			return
		}
	}
	t.Errorf("the verdict %q is not that of %s", r.Verdict.Text, check)
}

// site is a mailturn with everything, at the server's end of a network.
type site struct {
	network
	stateDir string
	args     []string // of every probe
}

const siteConfig = `
hostname = "mail.test"
log {
  level = "debug"
}
endpoint "turn" "turn" {
  listen = ["udp://198.51.100.1:3478", "tcp://198.51.100.1:3478", "tls://198.51.100.1:5349", "udp://[2001:db8::1]:3478", "tcp://[2001:db8::1]:3478", "tls://[2001:db8::1]:5349"]
  secret        = %q
  drain_timeout = "0s"
  kernel_path   = "off" # the rules of nftables are to see every packet
  peers {
    allow = ["198.51.100.0/24", "2001:db8::/64"]
  }
  %s
}
endpoint "imap" "imap" {
  listen      = ["tls://198.51.100.1:993", "tcp://198.51.100.1:143"]
  turn_server = "turn.test"
  embedded {
    users = { "alice@example.org" = "wonderland" }
  }
  %s
}
%s
`

// siteText is the configuration with further lines in its two endpoints and at the top.
func siteText(turn, imap, top string) string { return fmt.Sprintf(siteConfig, secret, turn, imap, top) }

// publicRelay is a correct relay_ip.
const publicRelay = `relay_ip = ["198.51.100.1", "2001:db8::1"]`

var siteNames = map[string][]string{
	"mail.test":  {serverIPv4},
	"other.test": {serverIPv4},
	"turn.test":  {serverIPv4, serverIPv6},
	"six.test":   {serverIPv6},
}

// startSite runs the server with further lines in its two endpoints and at the top.
func startSite(t *testing.T, turn, imap, top string) *site {
	t.Helper()
	return startSiteOf(t, []string{binary}, turn, imap, top)
}

// startSiteOf is startSite for another program, which is given with the arguments before those of mailturn.
func startSiteOf(t *testing.T, program []string, turn, imap, top string) *site {
	t.Helper()
	s := &site{network: newNetwork(t), stateDir: t.TempDir()}
	s.nameServer(t, siteNames)
	path := filepath.Join(t.TempDir(), "maddy.conf")
	if err := os.WriteFile(path, []byte(siteText(turn, imap, top)), 0o600); err != nil {
		t.Fatal(err)
	}
	startCommand(t, s.server.command(program[0], append(program[1:], "run", "--state-dir", s.stateDir, "--config", path)...))
	s.args = []string{"--dns", serverIPv4, "--ca", filepath.Join(s.stateDir, "selfsigned.crt")}
	return s
}

const aliceAtSite = "imaps://alice%40example.org@mail.test"

func (s *site) probe(t *testing.T, args ...string) *probe.Report {
	t.Helper()
	return runProbe(t, s.client, "wonderland", append(args, s.args...)...)
}

// TestProbeSite probes a working server, and then with each fault that a firewall or a client can cause.
func TestProbeSite(t *testing.T) {
	t.Parallel()
	s := startSite(t, publicRelay, "", "")
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	t.Run("good", func(t *testing.T) {
		r := s.probe(t, aliceAtSite)
		wantVerdict(t, r, "", probe.OK, "A call would connect.")
		if len(r.Relays) != 6 {
			t.Errorf("%d ways were tried, want two addresses over UDP, TCP and TLS", len(r.Relays))
		}
		for _, relay := range r.Relays {
			if relay.RelayToRelay == nil || relay.RelayToRelay.Received < 15 || strings.HasPrefix(relay.Address, serverIPv4) && (relay.Direct == nil || relay.Direct.Received < 15) {
				t.Errorf("%s over %s: relay to relay %v, from outside %v", relay.Address, relay.Transport, relay.RelayToRelay, relay.Direct)
			}
			if relay.LifetimeS != 600 || relay.Realm != "mail.test" || relay.RequestBytes != 28 {
				t.Errorf("%s over %s: %+v", relay.Address, relay.Transport, relay)
			}
		}
		if want := `[{"urls":["turn:198.51.100.1:3478","turn:[2001:db8::1]:3478"],"username":`; !strings.HasPrefix(compact(t, r.ICEServers), want) {
			t.Errorf("got the ICE servers %s, want %s…", r.ICEServers, want)
		}
		wantCheck(t, r, "safety.loopback", probe.OK)
		wantCheck(t, r, "safety.private", probe.OK)
		wantCheck(t, r, "safety.password", probe.OK)
	})
	t.Run("STARTTLS", func(t *testing.T) {
		wantVerdict(t, s.probe(t, "--quick", "imap://alice%40example.org@mail.test"), "", probe.OK, "A call would connect.")
	})
	t.Run("secret", func(t *testing.T) {
		r := s.probe(t, "--secret-file", secretFile, "turn:turn.test")
		wantVerdict(t, r, "", probe.OK, "A call would connect.")
		wantCheck(t, r, "safety.expired", probe.OK)
	})
	t.Run("TURN over TLS has no certificate for that name", func(t *testing.T) {
		wantVerdict(t, s.probe(t, "--secret-file", secretFile, "turns:other.test"), "turn.tls", probe.Failure, "the certificate is not for other.test, but for mail.test")
	})
	t.Run("line", func(t *testing.T) {
		c := minted("turn.test")
		wantVerdict(t, s.probe(t, fmt.Sprintf("turn.test:3478:%s:%s", c.username, c.password)), "", probe.OK, "A call would connect.")
	})
	t.Run("IPv6 alone", func(t *testing.T) {
		c := minted("six.test")
		r := s.probe(t, fmt.Sprintf("six.test:3478:%s:%s", c.username, c.password))
		wantVerdict(t, r, "turn.ipv4", probe.Warning, "the relay has no IPv4 address")
	})
	t.Run("name in the user name", func(t *testing.T) {
		username := minted("turn.test").username + ":alice"
		r := s.probe(t, "--quick", fmt.Sprintf("turn.test:3478:%s:%s", username, mint(username)))
		wantVerdict(t, r, "turn.credential", probe.Failure, "clients split the value at the first three colons")
	})
	t.Run("answers from another address", func(t *testing.T) {
		s.server.do(t, func() { answerFromElsewhere(t, serverIPv4+":4000") })
		r := s.probe(t, "--quick", "--secret-file", secretFile, "turn:turn.test:4000")
		wantVerdict(t, r, "turn.udp", probe.Failure, "198.51.100.1:4000 UDP answers, but the answer comes from 198.51.100.1:")
	})
	t.Run("load", func(t *testing.T) {
		args := append([]string{"probe", "--json", "--load", "10", "--pps", "50", "--duration", "1s", "--secret-file", secretFile, "turn:turn.test"}, s.args...)
		if out, err := s.client.command(binary, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "--i-own-this-server") {
			t.Errorf("a public address was loaded: %v\n%s", err, out)
		}
		out, err := s.client.command(binary, append(args, "--i-own-this-server")...).Output()
		var result probe.LoadReport
		if err := errors.Join(err, json.Unmarshal(out, &result)); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if result.Sent < 200 || result.Received < result.Sent/2 || result.RTT.P50 <= 0 || result.Allocations != 10 || result.Address != serverIPv4+":3478" {
			t.Errorf("got %+v", result)
		}
	})
	t.Run("expired line", func(t *testing.T) {
		username := strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
		r := s.probe(t, "--quick", fmt.Sprintf("turn.test:3478:%s:%s", username, mint(username)))
		wantVerdict(t, r, "value.expiry", probe.Failure, "the credential expired 1h 0m ago by this machine's clock")
		wantCheck(t, r, "turn.credential", probe.Failure)
	})
	t.Run("no such name", func(t *testing.T) {
		wantVerdict(t, s.probe(t, "gone.test:3478:99999999999:pw"), "turn.dns", probe.Failure, "does not exist (NXDOMAIN)")
	})
	t.Run("wrong IMAP password", func(t *testing.T) {
		r := runProbe(t, s.client, "looking-glass", append(s.args, aliceAtSite)...)
		wantVerdict(t, r, "imap.login", probe.Failure, "refuses the login of alice@example.org")
	})
	t.Run("wrong secret", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "maddy.conf")
		text := `
hostname = "mail.test"
endpoint "imap" "imap" {
  listen      = ["tls://198.51.100.1:994"]
  turn_server = "turn.test"
  turn_port   = 3478
  turn_secret = "a secret of this endpoint's own"
  embedded {
    users = { "alice@example.org" = "wonderland" }
  }
}
`
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		startCommand(t, s.server.command(binary, "run", "--state-dir", s.stateDir, "--config", path))
		r := s.probe(t, "imaps://alice%40example.org@mail.test:994")
		wantVerdict(t, r, "turn.credential", probe.Failure, "it was made with another secret, or the relay's clock is that far ahead")
	})
	t.Run("TLS name mismatch", func(t *testing.T) {
		wantVerdict(t, s.probe(t, "imaps://alice%40example.org@other.test"), "imap.tls", probe.Failure, "the certificate is not for other.test, but for mail.test")
	})
	t.Run("IMAP port closed", func(t *testing.T) {
		wantVerdict(t, s.probe(t, "imaps://alice%40example.org@mail.test:995"), "imap.connect", probe.Failure, "connection refused")
	})
	t.Run("UDP blocked and TCP open", func(t *testing.T) {
		s.server.firewall(t, "udp dport 3478 drop")
		r := s.probe(t, aliceAtSite)
		wantVerdict(t, r, "turn.udp", probe.Failure, "UDP to port 3478 is blocked (no answer); TCP gets through")
		wantCheck(t, r, "turn.tcp", probe.OK)
	})
	t.Run("UDP rejected", func(t *testing.T) {
		s.server.firewall(t, "udp dport 3478 reject")
		wantVerdict(t, s.probe(t, aliceAtSite), "turn.udp", probe.Failure, "UDP to port 3478 is blocked (nobody listens there")
	})
	t.Run("all blocked", func(t *testing.T) {
		s.server.firewall(t, "udp dport 3478 drop", "tcp dport { 3478, 5349 } drop")
		wantVerdict(t, s.probe(t, aliceAtSite), "turn.udp", probe.Failure, "no relay at 198.51.100.1:3478 UDP")
	})
	t.Run("relay range blocked", func(t *testing.T) {
		s.server.firewall(t, `iifname "eth0" udp dport 49152-65535 drop`)
		r := s.probe(t, aliceAtSite)
		wantVerdict(t, r, "turn.direct", probe.Failure, "the relay ports are closed")
		wantCheck(t, r, "turn.relay_to_relay", probe.OK)
	})
	t.Run("packets lost", func(t *testing.T) {
		s.server.firewall(t, `iifname "eth0" udp dport 49152-65535 numgen inc mod 4 == 0 drop`)
		r := s.probe(t, aliceAtSite)
		wantVerdict(t, r, "turn.direct", probe.Warning, "packets were lost from outside to the relay and back")
	})
	t.Run("ChannelData dropped", func(t *testing.T) {
		s.server.firewall(t, "udp dport 3478 @th,64,8 0x40 drop")
		r := s.probe(t, aliceAtSite)
		wantVerdict(t, r, "turn.relay_to_relay", probe.Failure, "although it allocates and packets get through over TCP: ChannelData is dropped")
	})
	t.Run("AAAA that does not answer", func(t *testing.T) {
		s.server.firewall(t, "ip6 daddr 2001:db8::1 udp dport 3478 drop")
		r := s.probe(t, aliceAtSite)
		wantVerdict(t, r, "turn.ipv6", probe.Warning, "[2001:db8::1]:3478 UDP does not allocate (no answer), although it is in DNS")
		if !r.Verdict.CallConnects {
			t.Error("the call would connect over IPv4")
		}
	})
	t.Run("DNS server silent", func(t *testing.T) {
		s.server.firewall(t, "udp dport 53 drop")
		wantVerdict(t, s.probe(t, "--quick", aliceAtSite), "imap.dns", probe.Failure, "no DNS server answered in time")
	})
}

// answerFromElsewhere serves Binding requests at an address and answers from another one.
func answerFromElsewhere(t *testing.T, addr string) {
	asked, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	answers, err := net.ListenPacket("udp", serverIPv4+":0")
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { asked.Close(); answers.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := asked.ReadFrom(buf)
			if err != nil {
				return
			}
			m, err := stun.Parse(buf[:n])
			if err != nil {
				continue
			}
			var b stun.Builder
			b.Start(m.Method, stun.ClassSuccess, m.TransactionID)
			b.XORAddress(stun.AttrXORMappedAddress, from.(*net.UDPAddr).AddrPort())
			answers.WriteTo(b.Bytes(), from)
		}
	}()
}

// compact takes the white space out of JSON.
func compact(t *testing.T, text json.RawMessage) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Errorf("%v in %s", err, text)
	}
	return b.String()
}

// wantCheck checks that every check with the name, of which there is at least one, has the status.
func wantCheck(t *testing.T, r *probe.Report, id string, status probe.Status) {
	t.Helper()
	found := false
	for _, c := range r.Checks {
		if c.ID == id {
			found = true
			if c.Status != status {
				t.Errorf("%s of %s is %s: %s, want %s", id, c.Subject, c.Status, c.Summary, status)
			}
		}
	}
	if !found {
		t.Errorf("%s was not checked", id)
	}
}

// TestProbeConfigurations probes servers that are wrongly configured.
func TestProbeConfigurations(t *testing.T) {
	t.Parallel()
	// pair makes a certificate that is its own authority, and the tls block for it.
	pair := func(name string, made time.Time) (ca, block string) {
		pair, _, err := certs.SelfSigned(t.TempDir(), []string{name}, made)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Cert, fmt.Sprintf("tls {\n  cert = %q\n  key = %q\n}", pair.Cert, pair.Key)
	}
	mailCA, mail := pair("mail.test", time.Now())
	expiredCA, expired := pair("mail.test", time.Now().AddDate(-3, 0, 0))
	_, other := pair("other.test", time.Now())
	for _, tt := range []struct {
		name            string
		turn, imap, top string
		args            []string
		check           string
		status          probe.Status
		text            string
	}{
		{name: "private relay_ip", turn: `relay_ip = "10.1.2.3"
  relay_bind = "198.51.100.1"`,
			check: "turn.relayed_address", status: probe.Failure, text: "the relay gives out 10.1.2.3, a private address"},
		{name: "wrong relay_ip", turn: fmt.Sprintf(`relay_ip = %q
  relay_bind = "198.51.100.1"`, otherIPv4),
			check: "turn.relayed_address", status: probe.Failure, text: "the relay gives out 198.51.100.9, but its address is 198.51.100.1"},
		{name: "short TTL", turn: publicRelay, imap: `turn_ttl = "6h"`,
			check: "value.ttl", status: probe.Warning, text: "credentials are valid for "},
		{name: "certificate of another name for TURN over TLS alone", turn: publicRelay + "\n" + other, top: mail, args: []string{"--ca", mailCA},
			check: "turn.tls", status: probe.Warning, text: "for TURN over TLS, at 198.51.100.1:5349, the certificate is not for turn.test, but for other.test"},
		{name: "TURN off", turn: publicRelay, imap: `turn_enable = false
  entries = { "/shared/comment" = "x" }`,
			check: "imap.metadata", status: probe.Failure, text: "turn.delta.chat for 7 days"},
		{name: "expired certificate", turn: publicRelay, top: expired, args: []string{"--ca", expiredCA},
			check: "imap.tls", status: probe.Failure, text: "the certificate of mail.test expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, tt.turn, tt.imap, tt.top)
			if tt.args != nil {
				s.args = append([]string{"--dns", serverIPv4}, tt.args...)
			}
			wantVerdict(t, s.probe(t, aliceAtSite), tt.check, tt.status, tt.text)
		})
	}
}

// TestProbeEmbeddedDefault probes mailturn without a configuration.
func TestProbeEmbeddedDefault(t *testing.T) {
	t.Parallel()
	n, stateDir := newNetwork(t), t.TempDir()
	startCommand(t, n.server.command(binary, "run", "--state-dir", stateDir))
	password, err := os.ReadFile(filepath.Join(stateDir, "demo.password"))
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(stateDir, "selfsigned.crt")
	r := runProbe(t, n.server, string(password), "--ca", ca, "imaps://demo%40localhost@localhost:1993")
	wantVerdict(t, r, "", probe.OK, "A call would connect.")
	if r.IMAP == nil || !r.IMAP.Compressed || r.IMAP.TLS.ALPN != "imap" || len(r.IMAP.Metadata) == 0 {
		t.Errorf("got the session %+v, want it compressed, with ALPN and the raw answer", r.IMAP)
	}
}

// TestProbeDovecot probes a Dovecot without METADATA, with mailturn in front of it, and with its own values.
func TestProbeDovecot(t *testing.T) {
	t.Parallel()
	p := freePorts(t)
	stateDir := t.TempDir()
	start(t, stateDir, "--config", configure(t, p, allowLoopback, ""))
	c := minted("127.0.0.1")
	target := func(addr string) string { return "imap://alice@" + addr }

	t.Run("without METADATA", func(t *testing.T) {
		d := startDovecot(t, dovecot.Options{})
		r := runProbe(t, "", dovecot.Password, target(d.Addr))
		wantVerdict(t, r, "imap.capabilities", probe.Failure, "does not offer METADATA after login, so clients will use the public server turn.delta.chat for 7 days")
		if !r.Fallback {
			t.Error("the report does not say that there is a fallback")
		}
	})
	t.Run("behind mailturn", func(t *testing.T) {
		d := startDovecot(t, dovecot.Options{})
		proxy := freePorts(t)
		path, stateDir := filepath.Join(t.TempDir(), "maddy.conf"), t.TempDir()
		text := fmt.Sprintf("hostname = \"localhost\"\nendpoint \"imap\" \"imap\" {\n  listen = [\"tls://127.0.0.1:%d\"]\n  turn_server = \"127.0.0.1\"\n  turn_port = %d\n  turn_secret = %q\n  upstream {\n    address = \"tcp://%s\"\n  }\n}\n",
			proxy.imaps, p.turn, secret, d.Addr)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		start(t, stateDir, "--config", path)
		r := runProbe(t, "", dovecot.Password, "--ca", filepath.Join(stateDir, "selfsigned.crt"), fmt.Sprintf("imaps://alice@localhost:%d", proxy.imaps))
		wantVerdict(t, r, "", probe.OK, "A call would connect.")
	})
	t.Run("with mailturn as its dictionary", func(t *testing.T) {
		dir, err := os.MkdirTemp("", "probe")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o755); err != nil { // for Dovecot's user
			t.Fatal(err)
		}
		socket, ports := filepath.Join(dir, "dict"), freePorts(t)
		config := configure(t, ports, allowLoopback, "")
		configureDoor(t, config, fmt.Sprintf("endpoint \"dict\" \"dovecot\" {\n  path = %q\n  mode = \"0666\"\n  turn_server = \"127.0.0.1\"\n}\n", socket))
		stateDir := t.TempDir()
		start(t, stateDir, "--config", config)
		d := startDovecot(t, dovecot.Options{AttributeDict: "proxy:" + socket + ":metadata"})
		ca := filepath.Join(stateDir, "selfsigned.crt") // for TURN over TLS
		wantVerdict(t, runProbe(t, "", dovecot.Password, "--ca", ca, target(d.Addr)), "", probe.OK, "A call would connect.")
	})
	lasting := strconv.FormatInt(time.Now().Add(5*24*time.Hour).Unix(), 10)
	for _, tt := range []struct {
		name, value, check string
		status             probe.Status
		text               string
	}{
		{"dict", fmt.Sprintf("127.0.0.1:%d:%s:%s", p.turn, lasting, mint(lasting)), "", probe.OK, "A call would connect."},
		{"dict with an hour", fmt.Sprintf("127.0.0.1:%d:%s:%s", p.turn, c.username, c.password), "value.ttl", probe.Warning, "credentials are valid for 59m"},
		{"dict with a static user", fmt.Sprintf("127.0.0.1:%d:alice:pw", p.turn), "value.parse", probe.Failure, "not a 64-bit number"},
		{"dict with an expired value", "127.0.0.1:3478:1758650868:pw", "value.expiry", probe.Failure, "the credential expired"},
		{"dict with a port that WebRTC refuses", "127.0.0.1:999:99999999999:pw", "value.port", probe.Failure, "WebRTC refuses TURN servers on port 999"},
		{"dict with brackets", "[127.0.0.1]:3478:99999999999:pw", "value.host", probe.Failure, "no fallback"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, path := startDict(t, map[string]string{serverEntry + "vendor/deltachat/turn": tt.value})
			d := startDovecot(t, dovecot.Options{AttributeDict: "proxy:" + path + ":metadata"})
			wantVerdict(t, runProbe(t, "", dovecot.Password, target(d.Addr)), tt.check, tt.status, tt.text)
		})
	}
}

// TestProbeAnswers probes servers whose answers core cannot parse, so that its users get no mail, or cannot use.
func TestProbeAnswers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pair, _, err := certs.SelfSigned(dir, []string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := certs.ReadPair(pair)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, capabilities, answer string
		check, text                string
	}{
		{"another entry", "IMAP4rev1 METADATA", `* METADATA "" (/shared/turn "h:1:5:pw")`, "imap.metadata", "users get no mail"},
		{"empty list", "IMAP4rev1 METADATA", `* METADATA "" ()`, "imap.metadata", "users get no mail"},
		{"mailbox as an atom", "IMAP4rev1 METADATA", `* METADATA INBOX (/shared/comment "x")`, "imap.metadata", "users get no mail"},
		{"refusal", "IMAP4rev1 METADATA", "b NO later", "imap.metadata", "the server answers GETMETADATA with NO later, so clients will use the public server"},
		{"end of the session", "IMAP4rev1 METADATA", "* BYE for today", "imap.metadata", "the IMAP session was cut off: GETMETADATA: the server answered BYE for today"},
		{"no IMAP4rev1", "IMAP4rev2 METADATA", "", "imap.capabilities", "users get no mail"},
		{"compression that is not there", "IMAP4rev1 METADATA COMPRESS=DEFLATE", "", "imap.compress", "core cannot use the server at all"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*certificate}})
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go serveIMAP(listener, tt.capabilities, tt.answer)
			port := listener.Addr().(*net.TCPAddr).Port
			r := runProbe(t, "", "wonderland", "--ca", pair.Cert, fmt.Sprintf("imaps://alice@localhost:%d", port))
			wantVerdict(t, r, tt.check, probe.Failure, tt.text)
		})
	}
}

// serveIMAP is a server that takes any login and answers GETMETADATA with one line, in which b is the command's tag.
func serveIMAP(listener net.Listener, capabilities, answer string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			io.WriteString(conn, "* OK ready\r\n")
			for scanner := bufio.NewScanner(conn); scanner.Scan(); {
				tag, command, _ := strings.Cut(scanner.Text(), " ")
				switch word, _, _ := strings.Cut(command, " "); word {
				case "CAPABILITY":
					fmt.Fprintf(conn, "* CAPABILITY %s\r\n%s OK\r\n", capabilities, tag)
				case "GETMETADATA":
					fmt.Fprintf(conn, "%s\r\n%s OK\r\n", strings.Replace(answer, "b ", tag+" ", 1), tag)
				case "LOGIN":
					fmt.Fprintf(conn, "%s OK in\r\n", tag)
				default:
					fmt.Fprintf(conn, "%s BAD what\r\n", tag)
				}
			}
		}()
	}
}

// TestProbeCoturn probes coturn as it should be, as it is by default, and open to its own machine.
func TestProbeCoturn(t *testing.T) {
	t.Parallel()
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	denied := []string{
		"--denied-peer-ip", "10.0.0.0-10.255.255.255", "--denied-peer-ip", "172.16.0.0-172.31.255.255", "--denied-peer-ip", "192.168.0.0-192.168.255.255",
		"--denied-peer-ip", "169.254.0.0-169.254.255.255",
	}
	for _, tt := range []struct {
		name     string
		options  []string
		firewall string
		check    string
		status   probe.Status
		text     string
	}{
		{"good", denied, "", "", probe.OK, "A call would connect."},
		{"relay range blocked for the relay itself", denied, `iifname "lo" udp dport 49152-65535 drop`, "turn.relay_to_relay", probe.Failure, "got through from one relayed address of this server to another"},
		{"default", nil, "", "safety.private", probe.Warning, "every user can reach the relay's private networks"},
		{"open to loopback", []string{"--allow-loopback-peers"}, "", "safety.loopback", probe.Failure, "it relays to 127.0.0.1 (loopback)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			startCoturn(t, n.server.command, append([]string{
				"-n", "--listening-ip", serverIPv4, "--relay-ip", serverIPv4, "--use-auth-secret", "--static-auth-secret", secret, "--realm", "example.org",
				"--no-tls", "--no-dtls", "--no-cli",
			}, tt.options...)...)
			if tt.firewall != "" {
				n.server.firewall(t, tt.firewall)
			}
			r := runProbe(t, n.client, "", "--secret-file", secretFile, "turn:"+serverIPv4)
			wantVerdict(t, r, tt.check, tt.status, tt.text)
		})
	}
}

// TestProbeRepeat reads the reports of a repeated probe, one on each line, until it is interrupted.
func TestProbeRepeat(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), binary, "probe", "--json", "--repeat", "1ms", "h:3478:alice:pw")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for range 3 {
		var report probe.Report
		if !lines.Scan() {
			t.Fatalf("the output ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &report); err != nil || report.Verdict.Status != probe.Failure {
			t.Errorf("%v in %s", err, lines.Bytes())
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after an interrupt: %v", err)
	}
}
