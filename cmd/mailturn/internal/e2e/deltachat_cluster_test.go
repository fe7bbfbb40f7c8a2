package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/deltachat"
	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// clusterPorts are the ports of a machine of TestDeltaChatKilledRelay, all of which have the address of the mail host.
type clusterPorts struct {
	imap, turn int
	relay      string // the range of relayed addresses
}

// joinCluster starts a machine of a cluster: a relay, and an IMAP endpoint with the host's Dovecot. Its credentials are valid for so short
// that Delta Chat asks for another one whenever it looks for mail.
func (m *mailHost) joinCluster(t *testing.T, name, redis string, p clusterPorts, lines string) clusterMachine {
	t.Helper()
	dir, err := os.MkdirTemp("", "cluster") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := clusterMachine{config: filepath.Join(dir, "maddy.conf"), socket: filepath.Join(dir, "socket")}
	text := fmt.Sprintf(`
hostname = %q
control {
  path = %q
}
cluster {
  redis       = ["redis://%s"]
  name        = %q
  turn_server = %q
  %s
}
endpoint "turn" "turn" {
  listen      = ["udp://%[7]s:%[8]d"]
  realm       = %[9]q
  secret      = %[10]q
  relay_ip    = %[7]q
  relay_ports = %[11]q
  peers {
    allow = ["%[7]s/32"]
  }
}
endpoint "imap" "imap" {
  listen      = ["tls://%[7]s:%[12]d"]
  turn_server = %[5]q
  turn_ttl    = "12h"
  upstream {
    address = "tcp://%[13]s"
  }
}
`, mailName, c.socket, redis, name, m.addr, lines, m.addr, p.turn, mailDomain, secret, p.relay, p.imap, m.dovecot.Addr)
	must(t, os.WriteFile(c.config, []byte(text), 0o600))
	c.server = start(t, t.TempDir(), "--config", c.config)
	return c
}

// toldPort waits until the user's Delta Chat hands out a relay on a port that is wanted, and returns it for WebRTC. Meanwhile, it has Delta
// Chat look for mail, as apps do when the network has changed.
func (u *user) toldPort(t *testing.T, wanted func(port string) bool) []iceServer {
	t.Helper()
	for began := time.Now(); time.Since(began) < deltachatLimit; time.Sleep(200 * time.Millisecond) {
		for _, s := range u.iceServers(t) {
			_, port, err := net.SplitHostPort(strings.TrimPrefix(s.URLs[0], "turn:"))
			if err == nil && wanted(port) {
				return []iceServer{{URLs: s.URLs[0], Username: s.Username, Credential: s.Credential}}
			}
		}
		u.do(t, func(ctx context.Context) error { return u.Core().Call(ctx, nil, "maybe_network") })
	}
	t.Fatalf("after %v, %s's Delta Chat still has the relays %+v", deltachatLimit, u.name, u.iceServers(t))
	return nil
}

// TestDeltaChatKilledRelay kills the relay of one of two users of Delta Chat in the middle of a call, as often as MAILTURN_KILLS says. The
// two log in on different machines of a cluster, and get relays from there, which their browsers use. Delta Chat carries the call; it makes
// no ICE restart, so the test asks it for another relay, and carries the descriptions of the restart. It takes minutes, so only .ci/full sets
// the variable.
func TestDeltaChatKilledRelay(t *testing.T) {
	count := os.Getenv("MAILTURN_KILLS")
	if count == "" {
		return
	}
	kills, err := strconv.Atoi(count)
	if err != nil {
		t.Fatalf("MAILTURN_KILLS: %v", err)
	}
	m := newMailHost(t)
	redis := redistest.Start(t).Addr
	const killedPort, hisPort = "3481", "3479"
	// Her machine has the clients in the region of a relay that is on no mail server's machine, and that is killed.
	regions := filepath.Join(t.TempDir(), "regions")
	must(t, os.WriteFile(regions, []byte("198.18.0.0/15 hers\n"), 0o600))
	hers := m.joinCluster(t, "hers", redis, clusterPorts{993, 3478, "20000-29999"}, fmt.Sprintf("region = \"mail\"\n  client_regions = %q", regions))
	m.joinCluster(t, "his", redis, clusterPorts{1993, 3479, "30000-39999"}, `region = "his"`)
	start := func() clusterMachine {
		killed := m.joinCluster(t, "killed", redis, clusterPorts{2993, 3481, "40000-49999"}, `region = "hers"`)
		for _, name := range []string{"killed", "hers", "his"} {
			hers.awaitRelay(t, 2*startLimit, name, "serving")
		}
		return killed
	}
	killed := start()
	alice, bob := m.newDeltaChat(t, "alice"), m.newDeltaChat(t, "bob")
	alice.configure(t)
	bob.configure(t, func(transport *deltachat.Transport) { transport.IMAPPort = 1993 })
	withBob, _ := befriend(t, alice, bob)
	her, him := startBrowser(t, browser.Chromium, m.clients, ""), startBrowser(t, browser.Chromium, m.clients, "")
	is := func(want string) func(string) bool { return func(port string) bool { return port == want } }
	for i := range kills {
		if i > 0 {
			killed = start()
		}
		herServers := alice.toldPort(t, is(killedPort))
		hisServers := bob.toldPort(t, is(hisPort))
		her.do(t, nil, "open", herServers)
		him.do(t, nil, "open", hisServers)
		placed, incoming := signal(t, alice, bob, withBob, her, him)
		users := []participant{her, him}
		for _, u := range users {
			u.do(t, nil, "connected")
		}
		hearMore(t, users...)
		for _, u := range users {
			u.report(t).wantRelayed(t, u.kind, "udp")
		}
		if at := her.report(t).LocalAddress; !inRange(t, at, 40000, 49999) {
			t.Fatalf("her relayed address is %s, want one of the relay that will be killed", at)
		}

		killedAt := time.Now()
		must(t, killed.cmd.Process.Kill())
		<-killed.exited
		var f failover
		noticed := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), callLimit)
			defer cancel()
			err := her.Call(ctx, nil, "interrupted")
			f.noticed = time.Since(killedAt)
			noticed <- err
		}()
		herServers = alice.toldPort(t, func(port string) bool { return port != killedPort })
		f.told = time.Since(killedAt)
		must(t, <-noticed)
		began := time.Now()
		her.do(t, nil, "setServers", herServers)
		before := []report{her.report(t), him.report(t)}
		describe(t, her, him, map[string]any{"iceRestart": true})
		for i, u := range users {
			u.do(t, nil, "received", 0, before[i].Inbound["audio"].PacketsReceived+1)
		}
		f.audio = time.Since(began)
		for i, u := range users {
			u.do(t, nil, "received", before[i].Inbound["video"].FramesDecoded+1, 0)
		}
		f.video, f.total = time.Since(began), time.Since(killedAt)
		hearMore(t, users...)
		for _, u := range users {
			u.report(t).wantRelayed(t, u.kind, "udp")
		}
		if at := her.report(t).LocalAddress; !inRange(t, at, 20000, 39999) {
			t.Errorf("her relayed address is %s, want one of another relay", at)
		}
		t.Logf("noticed after %.1f s, Delta Chat has another relay after %.1f s; then audio after %.1f s and video after %.1f s; in total %.1f s",
			f.noticed.Seconds(), f.told.Seconds(), f.audio.Seconds(), f.video.Seconds(), f.total.Seconds())
		for _, u := range users {
			u.do(t, nil, "close")
		}
		ended := bob.Core().Now()
		alice.do(t, func(ctx context.Context) error { return alice.EndCall(ctx, placed) })
		bob.wait(t, ended, "the end of the call", about("CallEnded", incoming))
	}
}

// inRange reports whether the port of an address is in a range.
func inRange(t *testing.T, address string, least, most int) bool {
	t.Helper()
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port := int(at.Port())
	return port >= least && port <= most
}
