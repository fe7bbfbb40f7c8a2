package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/chroot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/courier"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/cyrus"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// An imapServer is a running server by others, as people configure it.
type imapServer struct {
	name, version string
	addr          string
	// direct is what a connection to it begins with where mailturn is not in between.
	direct string
	// clientAddress is how mailturn tells it the client's address. Empty is "none".
	clientAddress string
	// prefix is what names of mailboxes begin with, other than INBOX.
	prefix string
	// metadata is true if it supports METADATA itself.
	metadata bool
	// unordered says that it answers in any order where the standard lets it: see inOrder.
	unordered bool
	// user returns a new user, whose password is dovecot.Password.
	user func() string
}

// imapServers are the servers in front of which TestIMAPServers puts mailturn.
var imapServers = []struct {
	name  string
	start func(t *testing.T) imapServer
}{
	{"Dovecot of Debian 12, as it is installed", stockDovecot("", "none")},
	{"Dovecot of Debian 12, with ID", stockDovecot("", "id")},
	{"Dovecot of Debian 12, with PROXY", stockDovecot("", "proxy2")},
	{"Dovecot of Debian 13, as it is installed", stockDovecot("trixie", "none")},
	{"Dovecot of Debian 13, with METADATA from a dictionary", func(t *testing.T) imapServer {
		root := openRoot(t, "trixie")
		d, _ := startMetadataDovecot(t, root)
		return imapServer{addr: d.Addr, version: packageVersion(t, root, "dovecot-imapd"), metadata: true, user: newUser}
	}},
	{"Cyrus of Debian 12", startCyrus},
	{"Courier of Debian 12", startCourier},
	{"go-imap's server", startGoIMAP},
	{"maddy", startMaddy},
}

// proxied2 is the header of PROXY version 2 for a client on loopback that uses TLS.
const proxied2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x14" + "\x7f\x00\x00\x01\x7f\x00\x00\x01\x80\x00\x00\x8f" + "\x20\x00\x05\x01\x00\x00\x00\x00"

// stockDovecot starts the Dovecot of a release, empty for this machine's, with the settings for TLS and logins that it is installed
// with.
func stockDovecot(release, clientAddress string) func(t *testing.T) imapServer {
	return func(t *testing.T) imapServer {
		options := told[clientAddress]
		options.SSL = "yes"
		if release != "" {
			options.Root = openRoot(t, release)
		}
		s := imapServer{addr: startDovecot(t, options).Addr, clientAddress: clientAddress, user: newUser}
		s.version = packageVersion(t, options.Root, "dovecot-imapd")
		if clientAddress == "proxy2" {
			s.direct = proxied2
		}
		return s
	}
}

func openRoot(t *testing.T, release string) *chroot.Root {
	t.Helper()
	root, err := chroot.Open(release)
	if err != nil {
		lacks(t, "%v", err)
	}
	return root
}

// packageVersion returns the version that the authors gave to what is in a Debian package.
func packageVersion(t *testing.T, root *chroot.Root, name string) string {
	t.Helper()
	query := []string{"-W", "-f", "${Version}", name}
	cmd := exec.Command("dpkg-query", query...)
	if root != nil {
		var err error
		if cmd, err = root.Command(nil, "dpkg-query", query...); err != nil {
			t.Fatal(err)
		}
	}
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		lacks(t, "the version of %s is unknown: %v", name, err)
	}
	version := regexp.MustCompile(`\d+(\.\d+)+`).FindString(string(out))
	if err != nil || version == "" {
		t.Fatalf("no version of %s in %q: %v", name, out, err)
	}
	return version
}

// daemonOfTest is a server that a test stops.
type daemonOfTest interface {
	Log() string
	Stop() error
}

func stopAfter(t *testing.T, s daemonOfTest) {
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.Log())
		}
	})
}

// startCyrus starts Cyrus with the documented line.
func startCyrus(t *testing.T) imapServer {
	root := openRoot(t, "bookworm-cyrus")
	line := readDocuments(t).find(t, "docs/imap.md", "Cyrus", "imap cmd=")
	s, err := cyrus.Start(t.Context(), root, replaced(t, line, "127.0.0.1:1143", "ADDR"))
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, s)
	return imapServer{addr: s.Addr, version: packageVersion(t, root, "cyrus-imapd"), prefix: "INBOX.", metadata: true, user: newUser}
}

func startCourier(t *testing.T) imapServer {
	root := openRoot(t, "bookworm-courier")
	users := make([]string, 200)
	for i := range users {
		users[i] = newUser()
	}
	s, err := courier.Start(t.Context(), root, users, dovecot.Password)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, s)
	var next atomic.Int64
	return imapServer{addr: s.Addr, version: packageVersion(t, root, "courier-imap"), prefix: "INBOX.",
		user: func() string { return users[next.Add(1)-1] }}
}

// startGoIMAP serves with go-imap's server and its mailboxes in memory.
func startGoIMAP(t *testing.T) imapServer {
	memory := imapmemserver.New()
	server := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return memory.NewSession(), nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		Logger:       discard{},
		InsecureAuth: true,
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
		server.Close()
	})
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "github.com/emersion/go-imap/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	return imapServer{addr: listener.Addr().String(), version: strings.TrimSpace(string(out)), user: func() string {
		name := newUser()
		user := imapmemserver.NewUser(name, dovecot.Password)
		if err := user.Create("INBOX", nil); err != nil {
			t.Error(err)
		}
		memory.AddUser(user)
		return name
	}}
}

// discard is a logger that does not log: the errors of clients are intended here.
type discard struct{}

func (discard) Printf(string, ...any) {}

// dial opens a connection to the server, by way of addr if that is not empty.
func (s imapServer) dial(addr string) (net.Conn, error) {
	if addr == "" {
		addr = s.addr
	}
	conn, err := dialPlain(addr)()
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(conn, s.direct)
	return conn, err
}

// TestIMAPServers runs the same checks with each server as mailturn's upstream.
func TestIMAPServers(t *testing.T) {
	t.Parallel()
	for _, kind := range imapServers {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := kind.start(t)
			s.name = kind.name
			if s.clientAddress == "" {
				s.clientAddress = "none"
			}
			p := startProxyWith(t, s.addr, s.clientAddress)
			for _, check := range serverChecks {
				t.Run(check.how, func(t *testing.T) {
					figures := check.run(t, s, p)
					interop.Record(t, interop.Cell{Kind: interop.Server, Name: s.name, Version: s.version, How: check.how,
						Figures: figures, Control: check.control})
				})
			}
		})
	}
}

// serverChecks are what every server goes through. Each returns what it measured.
var serverChecks = []struct {
	how, control string
	run          func(t *testing.T, s imapServer, p *proxy) (figures string)
}{
	{"same sessions directly and proxied", "wrong proxies in its place", checkSessions},
	{"commands hidden in data are not run", "the same without mailturn", checkSmuggling},
	{"same sessions with COMPRESS", "a client that does not compress", checkCompress},
	{"client that pauses within a message", "a proxy that drops a byte", checkPause},
	{"GETMETADATA answered with a credential", "before login; the server alone", checkMetadata},
}

// loginTo logs in over a connection on which nothing has been read.
func loginTo(conn net.Conn, user string) (*mailClient, error) {
	c := newMailClient(conn)
	if _, err := c.r.ReadString('\n'); err != nil {
		return nil, err
	}
	answer, err := c.command("l LOGIN " + user + " " + dovecot.Password)
	if err == nil && !strings.HasPrefix(answer, "l OK") {
		err = fmt.Errorf("LOGIN is answered %q", answer)
	}
	return c, err
}
