package e2e

import (
	"encoding/json"
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

// turnClient returns a client of the relay with a credential, which has no allocation yet.
func turnClient(t *testing.T, p ports, c credential) *turnclient.Client {
	t.Helper()
	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", p.turn))
	if err != nil {
		t.Fatal(err)
	}
	client := turnclient.New(turnclient.Config{Conn: conn, Username: c.username, Password: c.password})
	t.Cleanup(func() { client.Close() })
	if _, err := client.Challenge(t.Context()); err != nil {
		t.Fatal(err)
	}
	return client
}

// recordOfCalls checks that the block records who held a relayed port, across a restart, and that without it nothing is recorded.
func recordOfCalls(t *testing.T, _ documents, b recipe.Block) {
	record := strings.Replace(b.Text, "}", "  path = \"control.socket\"\n}", 1)
	stateDir, p := t.TempDir(), freePorts(t)
	path := configure(t, p, allowLoopback, "")
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(block string) {
		t.Helper()
		if err := os.WriteFile(path, append([]byte(block), plain...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(record)
	who := func(port uint16) string {
		t.Helper()
		text, _ := exec.Command(binary, "ctl", "--config", path, "who", fmt.Sprint(port), "now").CombinedOutput()
		return string(text)
	}
	s := start(t, stateDir, "--config", path)
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	client := turnClient(t, p, alice)
	allocation, err := client.Allocate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	port := allocation.Relayed.Port()
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if err := client.ChannelBind(t.Context(), 0x4000, peer.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	if err := client.SendChannel(0x4000, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	peer.SetReadDeadline(time.Now().Add(startLimit))
	if _, _, err := peer.ReadFrom(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if got := who(port); !strings.Contains(got, "alice@example.org") || !strings.Contains(got, " now ") {
		t.Errorf("while the call goes on:\n%s", got)
	}
	s.stop(t)
	s = start(t, stateDir, "--config", path)
	if got := who(port); !strings.Contains(got, "alice@example.org") || strings.Contains(got, " now ") {
		t.Errorf("after a restart:\n%s", got)
	}
	if got := who(port - 1); !strings.Contains(got, "nobody who held") {
		t.Errorf("another port:\n%s", got)
	}
	s.stop(t)
	write(strings.Replace(record, "record = \"168h\"", "", 1))
	start(t, stateDir, "--config", path)
	if got := who(port); !strings.Contains(got, "nothing is recorded: set record in the control block") {
		t.Errorf("without the attribute:\n%s", got)
	}
	worked(t, b, mailturnAlone, "control: the record says who held a relayed port, also after a restart", "without the attribute")
}

// TestControl has a call of alice, whose credential came over IMAP, seen by mailturn ctl with its bytes and ended by a ban, which holds
// for that credential after the server was restarted, until it is lifted.
func TestControl(t *testing.T) {
	stateDir, p := t.TempDir(), freePorts(t)
	path := configure(t, p, allowLoopback, "")
	dir, err := os.MkdirTemp("", "control") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, "control {\n  path = %q\n}\n", filepath.Join(dir, "control.socket"))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ctl := func(args ...string) (output string) {
		t.Helper()
		text, err := exec.Command(binary, append([]string{"ctl", "--config", path}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("mailturn ctl %s: %v\n%s", strings.Join(args, " "), err, text)
		}
		return string(text)
	}
	s := start(t, stateDir, "--config", path)
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	client := turnClient(t, p, alice)
	allocation, err := client.Allocate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if err := client.ChannelBind(t.Context(), 0x4000, peer.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	if err := client.SendChannel(0x4000, make([]byte, 1234)); err != nil {
		t.Fatal(err)
	}
	peer.SetReadDeadline(time.Now().Add(startLimit))
	if _, _, err := peer.ReadFrom(make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}

	var report struct {
		Sessions []struct {
			Account     string
			Relayed     string
			ToPeerBytes int `json:"to_peer_bytes"`
		}
	}
	if err := json.Unmarshal([]byte(ctl("sessions", "--json")), &report); err != nil || len(report.Sessions) != 1 {
		t.Fatalf("got %+v, %v, want one session", report, err)
	}
	if got := report.Sessions[0]; got.Account != "alice@example.org" || got.Relayed != allocation.Relayed.String() || got.ToPeerBytes != 1234 {
		t.Errorf("got %+v", got)
	}
	if got := ctl("ban", "alice@example.org", "--for", "1h"); !strings.Contains(got, "Sessions that ended: 1.") {
		t.Errorf("ban prints %q", got)
	}
	s.waitFor(t, s.stderr, "msg=banned by=")
	if _, err := client.Refresh(t.Context(), time.Minute); turnclient.Code(err) != 437 {
		t.Errorf("the call of a banned account: got %v, want 437", err)
	}
	s.stop(t)

	start(t, stateDir, "--config", path)
	if _, err := turnClient(t, p, alice).Allocate(t.Context()); turnclient.Code(err) != 403 {
		t.Errorf("after a restart: got %v, want 403", err)
	}
	again, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	if _, err := turnClient(t, p, again).Allocate(t.Context()); turnclient.Code(err) != 403 {
		t.Errorf("with the credential of after the restart: got %v, want 403", err)
	}
	bob, _ := discover(t, p, stateDir, "bob@example.org", "builder")
	if _, err := turnClient(t, p, bob).Allocate(t.Context()); err != nil {
		t.Errorf("bob: %v", err)
	}
	if got := ctl("bans"); !strings.Contains(got, "alice@example.org") {
		t.Errorf("bans prints %q", got)
	}
	ctl("unban", "alice@example.org")
	if _, err := turnClient(t, p, alice).Allocate(t.Context()); err != nil {
		t.Errorf("after the ban was lifted: %v", err)
	}
}
