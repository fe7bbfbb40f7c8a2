package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// The relays of TestBrowsersKilledRelay: each user's own, and that of the mail server's machine.
const (
	aliceRelay = "198.51.100.11"
	bobRelay   = "198.51.100.12"
	mailRelay  = "198.51.100.13"
)

// failover is how long the parts of a call's move to another relay took, all since the relay was killed except audio and video.
type failover struct {
	noticed time.Duration // by the browser: its connection is no longer connected
	told    time.Duration // another relay, over IMAP
	// From the new credentials until both browsers receive audio, and decode video.
	audio, video time.Duration
	total        time.Duration
}

// TestBrowsersKilledRelay kills the relay of one of two browsers in the middle of a call that goes through two relays of a cluster, as often as
// MAILTURN_KILLS says. The browser learns over IMAP of another relay, and an ICE restart takes the call there. The machine of the
// killed relay still answers with ICMP in half of the cases, and in the others nothing comes from it. It takes minutes, so only .ci/full
// sets the variable.
func TestBrowsersKilledRelay(t *testing.T) {
	count := os.Getenv("MAILTURN_KILLS")
	if count == "" {
		return
	}
	kills, err := strconv.Atoi(count)
	if err != nil {
		t.Fatalf("MAILTURN_KILLS: %v", err)
	}
	n := newCallNetwork(t)
	machines := n.addMachines(t, aliceRelay, bobRelay, mailRelay)
	// Each user has a relay nearby, so that the two relays are different ones whatever the users' names are.
	regions := filepath.Join(t.TempDir(), "regions")
	must(t, os.WriteFile(regions, []byte("10.75.1.0/24 alice\n10.75.2.0/24 bob\n"), 0o600))
	redis := n.relay.redisInside(t, redistest.Start(t), machinesRouter)
	join := func(name, ip string) clusterMachine {
		return machines[ip].joinCluster(t, name, ip, redis, fmt.Sprintf("region = %q\n  client_regions = %q", name, regions))
	}
	mail := join("mail", mailRelay)
	join("bob", bobRelay)
	certs := newCertificates(t)
	alice, bob := startBrowser(t, browser.Chromium, n.alice, certs.ca), startBrowser(t, browser.Chromium, n.bob, certs.ca)
	for i := range kills {
		silent := i%2 == 1
		machines[aliceRelay].firewall(t)
		killed := join("alice", aliceRelay)
		for _, name := range []string{"alice", "bob", "mail"} {
			mail.awaitRelay(t, 2*startLimit, name, "serving")
		}
		kill := func() {
			if silent {
				machines[aliceRelay].firewall(t, "drop")
			}
			must(t, killed.cmd.Process.Kill())
			<-killed.exited
		}
		f := n.callDuringKill(t, kill, alice, bob)
		t.Logf("silent %v: noticed after %.1f s, told another relay after %.1f s; then audio after %.1f s and video after %.1f s; in total %.1f s", silent,
			f.noticed.Seconds(), f.told.Seconds(), f.audio.Seconds(), f.video.Seconds(), f.total.Seconds())
	}
}

// machinesRouter is the address of the router in the network of addMachines.
const machinesRouter = "198.51.100.254"

// addMachines connects machines to the namespace of the relay, which becomes a router: each in a namespace of its own, at an address in
// 198.51.100.0/24.
func (n callNetwork) addMachines(t *testing.T, ips ...string) map[string]namespace {
	t.Helper()
	n.relay.ip(t, "link", "add", "machines", "type", "bridge")
	n.relay.ip(t, "addr", "add", machinesRouter+"/24", "dev", "machines")
	n.relay.ip(t, "link", "set", "machines", "up")
	if out, err := n.relay.command("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	machines := make(map[string]namespace)
	for i, ip := range ips {
		ns, port := namespace(fmt.Sprintf("%s%d", n.relay, i)), fmt.Sprintf("machine%d", i)
		if out, err := exec.Command("ip", "netns", "add", string(ns)).CombinedOutput(); err != nil {
			t.Fatalf("ip netns add: %v: %s", err, out)
		}
		t.Cleanup(func() { exec.Command("ip", "netns", "delete", string(ns)).Run() })
		ns.ip(t, "link", "set", "lo", "up")
		n.relay.ip(t, "link", "add", port, "type", "veth", "peer", "name", "uplink", "netns", string(ns))
		n.relay.ip(t, "link", "set", port, "master", "machines", "up")
		ns.ip(t, "addr", "add", ip+"/24", "dev", "uplink")
		ns.ip(t, "link", "set", "uplink", "up")
		ns.ip(t, "route", "add", "default", "via", machinesRouter)
		ns.completeChecksums(t, "uplink")
		machines[ip] = ns
	}
	return machines
}

// callDuringKill kills alice's relay during a call between alice and bob.
func (n callNetwork) callDuringKill(t *testing.T, kill func(), alice, bob participant) (f failover) {
	t.Helper()
	askFor := func(ns namespace, account, password string) (string, []iceServer) {
		c := ns.told(t, mailRelay, account, password)
		return c.host, []iceServer{{"turn:" + c.host + ":" + c.port, c.username, c.password}}
	}
	aliceHost, aliceServers := askFor(n.alice, "alice@example.org", "wonderland")
	bobHost, bobServers := askFor(n.bob, "bob@example.org", "builder")
	if aliceHost != aliceRelay || bobHost != bobRelay {
		t.Fatalf("alice and bob are told %s and %s, want %s and %s", aliceHost, bobHost, aliceRelay, bobRelay)
	}
	videoCall(t, alice, bob, aliceServers, bobServers)
	hearMore(t, alice, bob)
	for _, u := range []participant{alice, bob} {
		u.report(t).wantRelayed(t, u.kind, "udp")
	}

	killedAt := time.Now()
	kill()
	noticed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), callLimit)
		defer cancel()
		err := alice.Call(ctx, nil, "interrupted")
		f.noticed = time.Since(killedAt)
		noticed <- err
	}()
	for ; aliceHost == aliceRelay; time.Sleep(100 * time.Millisecond) {
		if time.Since(killedAt) > startLimit {
			t.Fatalf("after %v alice is still told the relay that was killed", startLimit)
		}
		aliceHost, aliceServers = askFor(n.alice, "alice@example.org", "wonderland")
	}
	f.told = time.Since(killedAt)
	must(t, <-noticed)

	began := time.Now()
	_, bobServers = askFor(n.bob, "bob@example.org", "builder")
	alice.do(t, nil, "setServers", aliceServers)
	bob.do(t, nil, "setServers", bobServers)
	users := []participant{alice, bob}
	before := []report{alice.report(t), bob.report(t)}
	describe(t, alice, bob, map[string]any{"iceRestart": true})
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
	if moved := alice.report(t).LocalAddress; !strings.HasPrefix(moved, aliceHost+":") {
		t.Errorf("alice's relayed address is %s, want one of the relay %s", moved, aliceHost)
	}
	if f.told > 10*time.Second {
		t.Errorf("alice was told the killed relay for %v, want at most 10s", f.told)
	}
	for _, u := range users {
		u.do(t, nil, "close")
	}
	return f
}
