package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// The mail server on which setup is tried. Its address has to be of the internet; nothing leaves the machine.
const (
	hostName    = "mail.example.org"
	mailAddress = "44.0.0.1"
	lineage     = "/etc/letsencrypt/live/" + hostName
	// authorityName is that of a certificate authority, which runs on the same machine.
	authorityName = "ca.example.org"
)

// A mailServer is a machine with Dovecot as its Debian configures it, ten users, and a name in DNS.
type mailServer struct {
	machine
	roots *x509.CertPool
	ca    string // a file with them, in the machine
}

// bootMailServer boots one, with a certificate where certbot would have put it.
func bootMailServer(t *testing.T, release, deb string) mailServer {
	t.Helper()
	s := bootDovecot(t, release, deb)
	certificates := newCertificatesFor(t, hostName)
	s.roots = certificates.roots
	for from, to := range map[string]string{certificates.ca: s.ca, certificates.cert: lineage + "/fullchain.pem", certificates.key: lineage + "/privkey.pem"} {
		s.copy(t, from, to)
	}
	s.run(t, `chmod 0700 /etc/letsencrypt/live
chmod 0600 `+lineage+`/privkey.pem
if dovecot --version | grep -q '^2\.3'; then
  sed -i 's|^ssl_cert = .*|ssl_cert = <`+lineage+`/fullchain.pem|; s|^ssl_key = .*|ssl_key = <`+lineage+`/privkey.pem|' /etc/dovecot/conf.d/10-ssl.conf
else
  sed -i 's|^ssl_server_cert_file = .*|ssl_server_cert_file = `+lineage+`/fullchain.pem|; s|^ssl_server_key_file = .*|ssl_server_key_file = `+lineage+`/privkey.pem|' /etc/dovecot/conf.d/10-ssl.conf
fi
systemctl reload dovecot`)
	return s
}

// bootDovecot boots a mail server whose Dovecot is as its Debian installs it, with the certificate that it makes then.
func bootDovecot(t *testing.T, release, deb string) mailServer {
	t.Helper()
	s := mailServer{machine: bootMachine(t, release, deb), ca: "/root/ca.pem"}
	s.address(t)
	s.run(t, `rm -rf /usr/sbin/policy-rc.d /var/lib/apt/lists/*
rm -f /etc/resolv.conf
echo nameserver 127.0.0.1 >/etc/resolv.conf
for i in 1 2 3 4 5 6 7 8 9 10; do
  useradd --create-home user$i
  echo user$i:wonderland | chpasswd
done
systemctl enable --now dovecot`)
	return s
}

// copy copies a file of this machine.
func (m machine) copy(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, to, string(text))
}

// address gives the machine its address, and a name server.
func (m machine) address(t *testing.T) {
	t.Helper()
	ip := peer(t, "ip", "iproute2")
	for _, args := range []string{"link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up", "addr add " + mailAddress + "/32 dev eth0"} {
		cmd := exec.Command("nsenter", append([]string{"--net", "--target=" + m.leader, ip}, strings.Fields(args)...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	var packets net.PacketConn
	var streams net.Listener // Pebble asks over TCP
	var packetErr, streamErr error
	m.inNetwork(t, func() {
		packets, packetErr = net.ListenPacket("udp", "127.0.0.1:53")
		streams, streamErr = net.Listen("tcp", "127.0.0.1:53")
	})
	if err := errors.Join(packetErr, streamErr); err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: packets}, {Listener: streams}} {
		serveNamesAt(t, server, map[string][]string{hostName: {mailAddress}, authorityName: {mailAddress}})
	}
}

// visitorAddress is that of the clients of a mail server. Their machine, a namespace, has a cable to it.
const visitorAddress = "44.0.0.2"

// visitors makes the namespace.
func (s mailServer) visitors(t *testing.T) namespace {
	t.Helper()
	ip := peer(t, "ip", "iproute2")
	name := fmt.Sprintf("mtvisitors%d-%s", os.Getpid(), s.leader)
	run := func(program string, args string) {
		t.Helper()
		if out, err := exec.Command(program, strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", program, args, err, out)
		}
	}
	etc := filepath.Join("/etc/netns", name) // ip netns exec puts what is in it over /etc
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(etc)
		os.Remove(filepath.Dir(etc)) // unless there are others
	})
	for file, text := range map[string]string{
		"hosts":         fmt.Sprintf("127.0.0.1 localhost\n%s %s\n%s %s\n", mailAddress, hostName, nowhere, publicServer),
		"resolv.conf":   "nameserver " + nowhere + "\n",
		"nsswitch.conf": "hosts: files\n",
	} {
		if err := os.WriteFile(filepath.Join(etc, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(ip, "netns add "+name)
	t.Cleanup(func() { run(ip, "netns delete "+name) })
	inside := "--net --target=" + s.leader + " " + ip
	run("nsenter", inside+" link set eth1 netns "+name)
	run("nsenter", inside+" route add "+visitorAddress+" dev eth0 src "+mailAddress)
	for _, args := range []string{"link set lo up", "addr add " + visitorAddress + "/24 dev eth1", "link set eth1 up", "route add default via " + mailAddress} {
		run(ip, "-n "+name+" "+args)
	}
	namespace(name).waitForCarrier(t, "eth1")
	return namespace(name)
}

// inNetwork runs f, whose sockets are then the machine's.
func (m machine) inNetwork(t *testing.T, f func()) {
	t.Helper()
	inNetwork(t, "/proc/"+m.leader+"/ns/net", f)
}

// dial connects to a port of the machine as a client elsewhere does.
func (s mailServer) dial(t *testing.T, port string) (conn net.Conn, err error) {
	t.Helper()
	s.inNetwork(t, func() { conn, err = net.DialTimeout("tcp", net.JoinHostPort(mailAddress, port), 5*time.Second) })
	return conn, err
}

// login logs in over TLS and returns the session. The certificate must be one of s.roots, unless these are nil.
func (s mailServer) login(t *testing.T) *mailSession {
	t.Helper()
	session, err := s.tryLogin(t)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// awaitLogin waits until a login succeeds.
func (s mailServer) awaitLogin(t *testing.T) *mailSession {
	t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		session, err := s.tryLogin(t)
		if err == nil {
			return session
		}
		if time.Since(began) > startLimit {
			t.Fatal(err)
		}
	}
}

func (s mailServer) tryLogin(t *testing.T) (*mailSession, error) {
	t.Helper()
	conn, err := s.dial(t, "993")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	secured := tls.Client(conn, &tls.Config{ServerName: hostName, RootCAs: s.roots, InsecureSkipVerify: s.roots == nil})
	session := &mailSession{secured, bufio.NewReader(secured)}
	if _, err := session.reader.ReadString('\n'); err != nil {
		return nil, err
	}
	_, err = session.try("LOGIN user1 wonderland")
	return session, err
}

// An mailSession is one of a client.
type mailSession struct {
	net.Conn
	reader *bufio.Reader
}

// command returns the untagged lines of a command, which must succeed.
func (s *mailSession) command(t *testing.T, command string) string {
	t.Helper()
	untagged, err := s.try(command)
	if err != nil {
		t.Fatal(err)
	}
	return untagged
}

func (s *mailSession) try(command string) (untagged string, err error) {
	if _, err := fmt.Fprintf(s, "a %s\r\n", command); err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	var text strings.Builder
	for {
		line, err := s.reader.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("%s: %w after %q", command, err, text.String())
		}
		if tagged, ok := strings.CutPrefix(line, "a "); ok {
			if !strings.HasPrefix(tagged, "OK") {
				return "", fmt.Errorf("%s: %s", command, line)
			}
			return text.String(), nil
		}
		text.WriteString(line)
	}
}

const askRelay = `GETMETADATA "" /shared/vendor/deltachat/turn`

// changeOver is how setup announces the step in which mailturn takes over the IMAP ports.
const changeOver = "mailturn takes over the IMAP ports from Dovecot"

// A watched is the connections that a client has made, or tried to make.
type watched struct {
	made    int
	refused []error
	slowest time.Duration
}

// follow runs a script in which mailturn is the last command, and calls seen with each line of its output and with the process. It
// returns the output, with that to standard error at its end, and how mailturn has ended.
func (m machine) follow(t *testing.T, script string, seen func(line string, process *os.Process)) (string, error) {
	t.Helper()
	cmd := m.command(script)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out, stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var process *os.Process
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		out.WriteString(lines.Text() + "\n")
		if process == nil { // nsenter waits for its child, which bash and then mailturn have become
			child, err := exec.Command(peer(t, "pgrep", "procps"), "--parent", strconv.Itoa(cmd.Process.Pid)).Output()
			if err != nil {
				t.Fatal(err)
			}
			pid, _ := strconv.Atoi(strings.TrimSpace(string(child)))
			process, _ = os.FindProcess(pid)
		}
		seen(lines.Text(), process)
	}
	err = cmd.Wait()
	return out.String() + stderr.String(), err
}

// setUp runs a command of setup's and returns what it says, and what came of a connection to the port of IMAP every five
// milliseconds, from the announcement of the change-over to the end of setup.
func (s mailServer) setUp(t *testing.T, command string) (out string, w watched) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	connect := sync.OnceFunc(func() {
		go func() {
			defer close(done)
			s.inNetwork(t, func() { w = connectAgainAndAgain(ctx, net.JoinHostPort(mailAddress, "993")) })
		}()
	})
	out, err := s.follow(t, command, func(line string, _ *os.Process) {
		if step, announced := strings.CutSuffix(line, " "+changeOver); announced && strings.Contains(step, "/") {
			connect()
		}
	})
	if err != nil {
		t.Fatalf("%s: %v\n%s\nThe journal:\n%s", command, err, out, s.journal())
	}
	connect()
	cancel()
	<-done
	return out, w
}

// connectAgainAndAgain connects every five milliseconds until ctx ends, and at least once. Each connection takes a process of Dovecot,
// so this is not for long.
func connectAgainAndAgain(ctx context.Context, address string) (w watched) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); w.made == 0 || ctx.Err() == nil; began = <-tick.C {
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		w.slowest = max(w.slowest, time.Since(began))
		w.made++
		if err != nil {
			w.refused = append(w.refused, err)
			continue
		}
		conn.Close()
	}
	return w
}

// TestSetup takes a mail server with Dovecot to calls with the two commands of the documentation, and back, on both releases of
// Debian with systemd.
func TestSetup(t *testing.T) {
	for _, root := range []string{"bookworm-systemd", "trixie-systemd"} {
		t.Run(root, func(t *testing.T) {
			deb := release(t, "mailturn_*_"+runtime.GOARCH+".deb")
			s := bootMailServer(t, root, deb)
			const dovecot = "doveconf -n | grep -v '^#'; doveconf service/imap-login; find /etc/dovecot -type f | sort | xargs sha256sum"
			before, present, session := s.run(t, dovecot), s.run(t, files), s.login(t)

			began := time.Now()
			s.run(t, "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet ./"+filepath.Base(deb))
			clean := s.run(t, "mailturn setup --dry-run; test ! -e /etc/mailturn/maddy.conf")
			if !strings.Contains(clean, "+  relay_ip    = \""+mailAddress+"\"") || s.run(t, dovecot) != before {
				t.Fatalf("--dry-run shows, or changes\n%s", clean)
			}
			if out := s.run(t, "mailturn setup </dev/null"); !strings.Contains(out, "add --yes") || s.run(t, dovecot) != before {
				t.Fatalf("without a terminal, setup says, or changes\n%s", out)
			}
			out, w := s.setUp(t, "mailturn setup --yes </dev/null")
			t.Logf("installation and setup took %v; %d connections were made during the change-over, in at most %v each",
				time.Since(began).Round(time.Second), w.made, w.slowest.Round(time.Millisecond))
			if len(w.refused) > 0 || w.made < 20 {
				t.Errorf("of %d connections during the change-over, %d fail: %v", w.made, len(w.refused), errors.Join(w.refused...))
			}
			if !strings.Contains(out, "Done.") {
				t.Errorf("setup says\n%s", out)
			}

			if strings.HasPrefix(root, "bookworm") { // Dovecot 2.4 says BYE to its clients at each reload
				session.command(t, "NOOP")
			}
			if told := s.login(t).command(t, askRelay); !strings.Contains(told, hostName+":3478:") {
				t.Errorf("a client is told %q", told)
			}
			s.run(t, "MAILTURN_PASSWORD=wonderland mailturn probe --ca "+s.ca+" imaps://user1@"+hostName)
			s.run(t, "mailturn check-config --strict /etc/mailturn/maddy.conf")
			if log := s.journal(); strings.Contains(log, "ip_local_reserved_ports lacks") {
				t.Errorf("other programs may get the relay's ports:\n%s", log)
			}

			if out := s.run(t, "mailturn setup --yes"); !strings.Contains(out, "Nothing is left to do") {
				t.Errorf("run again, setup says\n%s", out)
			}
			s.run(t, "echo '# ours' >>/etc/mailturn/maddy.conf")
			if out := s.run(t, "mailturn setup --yes"); !strings.Contains(out, "/etc/mailturn/maddy.conf has been changed since") {
				t.Errorf("after a change, setup says\n%s", out)
			}
			const dropIn = "/etc/dovecot/conf.d/99-mailturn.conf"
			s.run(t, "cp -p "+dropIn+" /root/; echo '# ours' >>"+dropIn)
			s.fails(t, "mailturn setup --undo", "that change would be lost")
			s.fails(t, "apt-get remove --yes --quiet mailturn", "mailturn is not removed")
			s.login(t).command(t, askRelay)

			s.run(t, "mv /root/99-mailturn.conf "+dropIn+"; mailturn setup --undo; grep ours /etc/mailturn/maddy.conf.changed")
			if diff := cmp.Diff(before, s.run(t, dovecot)); diff != "" {
				t.Errorf("Dovecot: -before +after undo\n%s", diff)
			}
			s.login(t).command(t, "NOOP")
			s.fails(t, "mailturn setup --undo", "has not been set up")

			// Whoever removes the package without undo is not left without a mail server.
			s.run(t, "mailturn setup --yes\necho '# ours' >>/etc/mailturn/maddy.conf\napt-get purge --yes --quiet mailturn")
			if diff := cmp.Diff(before, s.run(t, dovecot)); diff != "" {
				t.Errorf("Dovecot: -before +after a purge\n%s", diff)
			}
			s.login(t).command(t, "NOOP")
			if diff := cmp.Diff(strings.Split(present, "\n"), strings.Split(s.run(t, files), "\n")); diff != "" {
				t.Errorf("undo and a purge leave: -before +after\n%s", diff)
			}
		})
	}
}
