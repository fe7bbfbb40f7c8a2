package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
)

// dialDTLS begins a DTLS association with the relay.
func dialDTLS(t *testing.T, p ports) net.Conn {
	t.Helper()
	localhost := net.IPv4(127, 0, 0, 1)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: localhost})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	conn, err := dtls.ClientWithOptions(socket, &net.UDPAddr{IP: localhost, Port: p.turns}, dtls.WithInsecureSkipVerify(true))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestUpgradeOverDTLS upgrades mailturn during a call of coturn's client over DTLS, which uses OpenSSL: nothing is lost. Then mailturn
// is replaced by a program that reads only the first version of the state, in which there are no associations: a client over DTLS is
// told that its association ends, and one over UDP goes on.
func TestUpgradeOverDTLS(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("upgrades need Linux")
	}
	t.Parallel()
	program := hostUclient(t)
	p, stateDir := freePorts(t), t.TempDir()
	i := newInstallation(t, binary, configure(t, p, allowLoopback+manyAllocations, ""))
	i.start(t, stateDir)
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")

	const clients, messages = 2, 500
	port, count := echoPeer(t)
	run := program.start(t, alice, p.turns, "-S", "-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-z", "10",
		"-m", strconv.Itoa(clients), "-n", strconv.Itoa(messages), "-l", "170")
	for deadline := time.Now().Add(startLimit); count() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the client sends nothing")
		}
	}
	upgrades := 0
	for ; upgrades < upgradeCount && count() < clients*messages*9/10; upgrades++ {
		i.upgrade(t)
	}
	if upgrades < 2 {
		t.Errorf("%d upgrades while the client was sending", upgrades)
	}
	run.wait(t).wantAll(t, clients*messages)
	if n := strings.Count(i.log.String(), "allocation.reason=upgrade"); n > 0 {
		t.Errorf("%d allocations have ended because of upgrades", n)
	}

	peer := echoingPeer(t)
	association := dialDTLS(t, p)
	overDTLS, overUDP := beginStreamOver(t, "dtls", association, alice, peer), beginStream(t, p, "udp", alice, peer)
	client := regexp.QuoteMeta(association.LocalAddr().String())
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { overUDP.run(stop) })
	former := filepath.Join(t.TempDir(), "former")
	must(t, os.WriteFile(former, fmt.Appendf(nil,
		"#!/bin/sh\nif [ \"$1\" = takeover ]; then echo '{\"version\":\"former\",\"oldest_state\":1,\"newest_state\":1}'; else exec %s \"$@\"; fi\n", binary), 0o755))
	i.replace(t, former)
	i.upgrade(t)
	if _, err := overDTLS.client.Refresh(t.Context(), time.Minute); err == nil {
		t.Error("a client over DTLS goes on, although the program cannot know it")
	}
	close(stop)
	running.Wait()
	if overUDP.back != overUDP.sent || overUDP.sent == 0 {
		t.Errorf("%d of %d packets over UDP came back", overUDP.back, overUDP.sent)
	}
	if status, err := i.status(); err != nil || status.Endpoints[0].Relay.Allocations != 1 {
		t.Errorf("%+v, %v, want the allocation over UDP", status, err)
	}
	ended := regexp.MustCompile(`msg="allocation ended".* allocation\.client=` + client + ` .* allocation\.reason=upgrade`)
	if !ended.MatchString(i.log.String()) {
		t.Errorf("the log does not say that an upgrade has ended the allocation of %s", client)
	}
}
