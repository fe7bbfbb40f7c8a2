package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRelayAddressLasts omits relay_ip on a machine with privacy extensions (RFC 8981), which sends from an address that changes
// within days.
func TestRelayAddressLasts(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := n.server.command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run("sh", "-c", "cd /proc/sys/net/ipv6/conf/eth0 && echo 2 >use_tempaddr && echo 0 >accept_dad")
	run("ip", "addr", "delete", serverIPv6+"/64", "dev", "eth0")
	run("ip", "addr", "add", serverIPv6+"/64", "dev", "eth0", "mngtmpaddr", "nodad")
	run("ip", "-6", "route", "add", "default", "via", clientIPv6)
	for deadline := time.Now().Add(startLimit); strings.Contains(run("ip", "-6", "route", "get", "2001:db8:f::1"), " src "+serverIPv6+" "); {
		if time.Now().After(deadline) {
			t.Fatalf("the kernel sends from no temporary address:\n%s", run("ip", "-6", "addr", "show", "dev", "eth0"))
		}
	}

	path := filepath.Join(t.TempDir(), "maddy.conf")
	const config = "hostname = \"turn.test\"\nendpoint \"turn\" \"turn\" {\n  listen = \"udp://*:3478\"\n}\n"
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startCommand(t, n.server.command(binary, "run", "--state-dir", t.TempDir(), "--config", path))
	if line := s.waitFor(t, s.stderr, "relay_bind=2001:"); !strings.Contains(line, "relay_ip="+serverIPv6+" ") {
		t.Errorf("the relay has another address than %s: %s", serverIPv6, line)
	}
}
