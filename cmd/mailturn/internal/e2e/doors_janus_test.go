package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/door"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/recipe"
)

// relayCandidate is a candidate of a relay in SDP (RFC 8839 section 5.1).
var relayCandidate = regexp.MustCompile(`(?m)^a=candidate:.* typ relay `)

// janusAsks puts the lines into Janus's installed configuration and calls it: with each method that it has for the TURN REST API,
// under the name that an application gives a user, and without one.
func janusAsks(t *testing.T, _ documents, b recipe.Block) {
	const key = "a+key/of the end-to-end tests" // which has to be escaped in a URL
	root, n := openRoot(t, "bookworm-doors"), newNetwork(t)
	n.server.waitForCarrier(t, "eth0") // or Janus sees no address
	version := packageVersion(t, root, "janus")
	state := t.TempDir()
	config := filepath.Join(t.TempDir(), "maddy.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
hostname = "turn.example.org"
log {
  level = "debug"
}
endpoint "turn" "turn" {
  listen   = ["udp://%[1]s:3478", "tcp://%[1]s:3478"]
  secret   = %[2]q
  relay_ip = %[1]q
}
endpoint "http" "http" {
  listen   = "https://%[1]s:8443"
  api_keys = %[3]q
}
`, serverIPv4, secret, key), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startCommand(t, n.server.command(binary, "run", "--state-dir", state, "--config", config))
	// relays returns how many candidates of a relay Janus has for a call, and what the log of ours says of it.
	relays := func(lines, opaqueID string) (candidates int, log string) {
		t.Helper()
		janus, err := door.StartJanus(t.Context(), root, door.Janus{
			Lines:       lines + "ice_enforce_list = \"" + serverIPv4 + "\"\n", // others may not be there yet
			Certificate: filepath.Join(state, "selfsigned.crt"), Host: serverIPv4 + " turn.example.org", Namespace: string(n.server),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { // before the next one, which has the same ports
			if err := janus.Stop(); err != nil {
				t.Error(err)
			}
		}()
		before := len(s.stderr.String())
		sdp, err := door.Call(t.Context(), opaqueID, func(network, address string) net.Conn { return n.server.dial(t, network, address) })
		if err != nil {
			t.Fatalf("%v\n%s", err, janus.Log())
		}
		return len(relayCandidate.FindAllString(sdp, -1)), s.stderr.String()[before:]
	}
	lines := replaced(t, b, `"KEY"`, strconv.Quote(key))
	for method, more := range map[string]string{"POST": "", "GET": "turn_rest_api_method = \"GET\"\n"} {
		for opaqueID, account := range map[string]string{"alice": "alice", "": `\d{9,}`} {
			candidates, log := relays(lines+more, opaqueID)
			made := regexp.MustCompile(`msg="allocation made".* allocation.transport=(?:UDP|TCP) .* allocation.account=`+account+` `).FindAllString(log, -1)
			if asked := regexp.MustCompile(` method=` + method + ` path=/turn status=200\n`); candidates == 0 || len(made) != 2 || !asked.MatchString(log) {
				t.Errorf("by %s under %q: %d candidates of a relay and %d allocations, want some of two:\n%s", method, opaqueID, candidates, len(made), log)
			}
		}
	}
	if candidates, log := relays(replaced(t, b, "KEY", "another key"), "alice"); candidates != 0 {
		t.Errorf("with another key: %d candidates of a relay\n%s", candidates, log)
	}
	worked(t, b, "Janus "+version, "Janus has candidates of the relay", "another key")
	interop.Record(t, interop.Cell{
		Kind: interop.Door, Name: "Janus of Debian 12", Version: version, How: "TURN REST API by POST and GET: allocations over UDP and TCP, and a candidate", Control: "another key",
	})
}
