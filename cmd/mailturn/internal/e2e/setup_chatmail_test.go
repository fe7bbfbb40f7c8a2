package e2e

import (
	"crypto/tls"
	"net"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// chatmailDaemon is what a chatmail relay's metadata daemon does when Dovecot asks for the relay (chatmaild/src/chatmaild/metadata.py
// and turnserver.py). It reads chatmail.ini when it starts.
const chatmailDaemon = `
import configparser, os, socket
ini = configparser.ConfigParser()
ini.read("/usr/local/lib/chatmaild/chatmail.ini")
domain = ini["params"]["mail_domain"]
relay = ini["params"].get("turn_socket_path", "/run/chatmail-turn/turn.socket")
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/chatmail-metadata/metadata.socket")
listener.listen()
while True:
    connection = listener.accept()[0]
    if os.fork():
        connection.close()
        continue
    for line in connection.makefile("rb"):
        if not line.startswith(b"L"):
            continue
        answer = b"N\n"
        if b"vendor/deltachat/turn\t" in line:
            credential = socket.socket(socket.AF_UNIX)
            credential.connect(relay)
            answer = f"O{domain}:3478:".encode() + credential.makefile("rb").readline()
        connection.sendall(answer)
    os._exit(0)
`

// chatmailTurn has the port and the socket of chatmail-turn.
const chatmailTurn = `
import socket
relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
relay.bind(("0.0.0.0", 3478))
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/chatmail-turn/turn.socket")
listener.listen()
while True:
    connection = listener.accept()[0]
    connection.sendall(b"1:of-chatmail-turn\n")
    connection.close()
`

// acmetoolLive is where acmetool has the certificate of a name: a link to the directory of one certificate.
const acmetoolLive = "/var/lib/acme/live/" + hostName

// TestSetupChatmail sets mailturn up on what cmdeploy leaves on a machine, as far as setup meets it: once on a relay with a name, and
// once on one with an address alone. Dovecot keeps its ports.
func TestSetupChatmail(t *testing.T) {
	t.Parallel()
	deb := release(t, "mailturn_*_"+runtime.GOARCH+".deb")
	s := bootDovecot(t, "bookworm-systemd", deb)
	first := newCertificatesFor(t, hostName)
	s.roots = first.roots
	s.copy(t, first.cert, "/var/lib/acme/certs/first/fullchain")
	s.copy(t, first.key, "/var/lib/acme/certs/first/privkey")
	s.write(t, "/usr/local/lib/chatmaild/metadata.py", chatmailDaemon)
	s.write(t, "/usr/local/lib/chatmaild/turn.py", chatmailTurn)
	s.write(t, "/etc/systemd/system/chatmail-metadata.service", strings.Replace(chatmailMetadata, "/bin/true", "/usr/bin/python3 /usr/local/lib/chatmaild/metadata.py", 1))
	s.write(t, "/etc/systemd/system/turnserver.service", strings.Replace(chatmailTurnserver, "/bin/true", "/usr/bin/python3 /usr/local/lib/chatmaild/turn.py", 1)+"[Install]\nWantedBy=multi-user.target\n")
	s.write(t, "/etc/dovecot/dovecot.conf", `protocols = imap
ssl_cert = <`+acmetoolLive+`/fullchain
ssl_key = <`+acmetoolLive+`/privkey
mail_location = maildir:~/mail
mail_attribute_dict = proxy:/run/chatmail-metadata/metadata.socket:metadata
passdb {
  driver = static
  args = password=wonderland
}
userdb {
  driver = static
  args = uid=vmail gid=vmail home=/home/vmail/%u
}
protocol imap {
  imap_metadata = yes
}
`)
	s.run(t, `useradd --create-home vmail
mkdir /var/lib/acme/live
ln -s ../certs/first `+acmetoolLive+`
chmod -R go= /var/lib/acme/certs
rm -r /etc/dovecot/conf.d
printf '[params]\nmail_domain = `+hostName+`\n' >/usr/local/lib/chatmaild/chatmail.ini
systemctl daemon-reload
systemctl enable --now chatmail-metadata turnserver 2>/dev/null
systemctl restart dovecot
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet ./`+filepath.Base(deb))

	const state = setupState + "\ncat /usr/local/lib/chatmaild/chatmail.ini; systemctl is-active chatmail-metadata turnserver dovecot; systemctl cat chatmail-metadata turnserver dovecot"
	for _, tt := range []struct{ name, domain, host string }{
		{"a name", hostName, hostName},
		{"an address alone", "[" + mailAddress + "]", mailAddress},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.run(t, "sed -i 's/^mail_domain = .*/mail_domain = "+tt.domain+"/' /usr/local/lib/chatmaild/chatmail.ini; systemctl restart chatmail-metadata")
			before := s.run(t, state)
			if told := s.login(t).command(t, askRelay); !strings.Contains(told, ":3478:1:of-chatmail-turn") {
				t.Fatalf("before setup, a client is told %q", told)
			}
			dovecot := s.run(t, listenedOn("dovecot"))
			s.run(t, "mailturn setup --yes")
			told := s.login(t).command(t, askRelay)
			if strings.Contains(told, "["+tt.host) || !strings.Contains(told, tt.host+":3478:") || strings.Contains(told, "of-chatmail-turn") {
				t.Errorf("a client is told %q", told)
			}
			want := "3478 5349\n"
			if tt.host == mailAddress {
				want = "3478\n"
			}
			if got := s.run(t, listenedOn("mailturn")); got != want {
				t.Errorf("mailturn listens on the ports %s, want %s", got, want)
			}
			if got := s.run(t, listenedOn("dovecot")); got != dovecot || !strings.Contains(got, "993") {
				t.Errorf("Dovecot listens on the ports %s, and before on %s", got, dovecot)
			}
			if out := s.run(t, "mailturn setup --yes"); !strings.Contains(out, "Nothing is left to do") {
				t.Errorf("run again, setup says\n%s", out)
			}
			if tt.host == hostName {
				s.renewed(t, "5349", func(renewed certificates) {
					s.copy(t, renewed.cert, "/var/lib/acme/certs/second/fullchain")
					s.copy(t, renewed.key, "/var/lib/acme/certs/second/privkey")
					s.run(t, "ln -s ../certs/second /var/lib/acme/live/new; mv -T /var/lib/acme/live/new "+acmetoolLive)
				})
				s.run(t, "ln -s ../certs/first /var/lib/acme/live/new; mv -T /var/lib/acme/live/new "+acmetoolLive+"; rm -r /var/lib/acme/certs/second")
			}
			s.run(t, "mailturn setup --undo")
			if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(s.run(t, state), "\n")); diff != "" {
				t.Errorf("-before +after undo\n%s", diff)
			}
			if told := s.login(t).command(t, askRelay); !strings.Contains(told, ":3478:1:of-chatmail-turn") {
				t.Errorf("after undo, a client is told %q", told)
			}
		})
	}
}

// listenedOn prints the TCP ports on which the main process of a unit listens, other than on loopback.
func listenedOn(unit string) string {
	return `python3 - "$(systemctl show --property=MainPID --value ` + unit + `)" <<'END'
import glob, os, sys
mine = {os.readlink(link) for link in glob.glob(f"/proc/{sys.argv[1]}/fd/*")}
ports = set()
for table in "tcp", "tcp6":
    for line in open("/proc/net/" + table).readlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in mine and not fields[1].startswith("0100007F"):
            ports.add(int(fields[1].split(":")[1], 16))
print(*sorted(ports))
END`
}

// renewed replaces the certificate with another one, and waits until clients of a port get that.
func (s mailServer) renewed(t *testing.T, port string, replace func(certificates)) {
	t.Helper()
	other := newCertificatesFor(t, hostName)
	began := time.Now()
	replace(other)
	for {
		conn, err := s.dial(t, port)
		if err != nil {
			t.Fatal(err)
		}
		secured := tls.Client(conn, &tls.Config{ServerName: hostName, RootCAs: other.roots})
		secured.SetDeadline(time.Now().Add(5 * time.Second))
		err = secured.Handshake()
		conn.Close()
		if err == nil {
			t.Logf("the renewed certificate took effect after %v", time.Since(began).Round(time.Second))
			return
		}
		if time.Since(began) > startLimit {
			t.Fatalf("port %s does not present the renewed certificate within %v: %v\n%s", port, startLimit, err, s.run(t, "systemctl status --no-pager mailturn-certificates.path mailturn-certificates.service || true"))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// TestSetupUpstream sets mailturn up in front of an IMAP server on another machine, with a certificate that only root can read, which
// is then renewed in place.
func TestSetupUpstream(t *testing.T) {
	t.Parallel()
	deb := release(t, "mailturn_*_"+runtime.GOARCH+".deb")
	s := bootMailServer(t, "bookworm-systemd", deb)
	visitors := s.visitors(t)
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"maddy.conf": `endpoint "imap" "imap" {
  listen = "tcp://` + visitorAddress + `:143"
  insecure_auth = true
  turn_server   = "unused.example.org"
  turn_secret = "` + secret + `"
  embedded {
    users = { "user1" = "wonderland" }
  }
}
`})
	startCommand(t, visitors.command(binary, "run", "--state-dir", dir, "--config", filepath.Join(dir, "maddy.conf")))
	const kept = "/srv/certificates"
	s.run(t, "install -d -m 0700 "+kept+"\ncp "+lineage+"/*.pem "+kept+"\nrm -r /etc/letsencrypt\nDEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet ./"+filepath.Base(deb))
	upstream := "mailturn setup --yes --hostname " + hostName + " --cert " + path.Join(kept, "fullchain.pem") + " --key " + path.Join(kept, "privkey.pem") + " --upstream tcp://" + net.JoinHostPort(visitorAddress, "143")
	if out, err := s.command(upstream).CombinedOutput(); err == nil || !strings.Contains(string(out), "dovecot (process ") {
		t.Errorf("beside a Dovecot on the same ports, setup ends with %v\n%s", err, out)
	}
	s.run(t, "systemctl disable --now dovecot 2>/dev/null")
	before := s.run(t, setupState)
	s.run(t, upstream)
	if told := s.login(t).command(t, askRelay); !strings.Contains(told, hostName+":3478:") {
		t.Errorf("a client is told %q", told)
	}
	s.renewed(t, "993", func(renewed certificates) {
		s.copy(t, renewed.cert, kept+"/fullchain.pem")
		s.copy(t, renewed.key, kept+"/privkey.pem")
	})
	s.run(t, "mailturn setup --undo")
	if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(s.run(t, setupState), "\n")); diff != "" {
		t.Errorf("-before +after undo\n%s", diff)
	}
	if conn, err := s.dial(t, "993"); err == nil {
		conn.Close()
		t.Error("somebody listens on port 993 after undo")
	}
}
