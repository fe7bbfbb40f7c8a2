package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/probe"
)

// TestProbeVerdict probes a good server where what voice needs works, and something else cannot be known or does not work.
func TestProbeVerdict(t *testing.T) {
	t.Parallel()
	s := startSite(t, publicRelay, "", "")
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	bySecret := []string{"--secret-file", secretFile, "turn:turn.test"}

	// Packets of 160 bytes get through in all of these.
	const inClear, fourBytesOfChannelData = 20 + 8, 4
	for _, tt := range []struct {
		name     string
		firewall []string // of the server
		mtu      string   // of the client
		status   probe.Status
		text     string
		largest  int // that comes back from relay to relay over IPv4
	}{
		{"all sizes", nil, "1500", probe.OK, "A call would connect.", 1400},
		{"large packets dropped", []string{"meta l4proto udp meta length > 1200 drop"}, "1500", probe.Warning,
			"packets of more than 1168 bytes get lost between here and 198.51.100.1:3478 UDP (path MTU 1200)", 1200 - inClear - fourBytesOfChannelData},
		{"large packets dropped at the relay's ports", []string{`iifname "eth0" udp dport 49152-65535 meta length > 1200 drop`}, "1500", probe.Warning,
			"packets of more than 1172 bytes get lost between here and the relayed address 198.51.100.1:", 1400},
		{"link of 1280 bytes", nil, "1280", probe.OK, "A call would connect.", 1280 - inClear - fourBytesOfChannelData},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.server.firewall(t, tt.firewall...)
			if out, err := s.client.command("ip", "link", "set", "eth0", "mtu", tt.mtu).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			r := s.probe(t, bySecret...)
			wantVerdict(t, r, "turn.packet_size", tt.status, tt.text)
			for _, relay := range r.Relays {
				over4 := relay.Address == serverIPv4+":3478"
				if mtu := relay.PathMTU - inClear - fourBytesOfChannelData; over4 && relay.Transport == probe.UDP && (mtu != tt.largest || relay.RelayToRelay.LargestBytes != tt.largest) {
					t.Errorf("the path MTU is %d, and %d bytes came back, want %d", relay.PathMTU, relay.RelayToRelay.LargestBytes, tt.largest)
				}
			}
		})
	}

	t.Run("on the relay's own machine, its ports closed to others", func(t *testing.T) {
		s.server.firewall(t, `iifname "eth0" udp dport 49152-65535 drop`)
		r := runProbe(t, s.server, "", append(bySecret, s.args...)...)
		want := "A call between two users of this server would connect. Not tested: whether the relay's ports at 198.51.100.1 are open to the outside (this is the relay's own machine)"
		if r.Verdict.Status != probe.Warning || !strings.Contains(r.Verdict.Text, want) || len(r.Verdict.NotTested) == 0 || r.Verdict.Action == "" {
			t.Errorf("got the verdict %+v, want %s: %s", r.Verdict, probe.Warning, want)
		}
		wantCheck(t, r, "turn.direct", probe.Skipped)
		s.server.firewall(t)
	})
	t.Run("load of packets that get lost", func(t *testing.T) {
		s.server.firewall(t, "meta l4proto udp meta length > 1200 drop")
		args := append([]string{"probe", "--load", "2", "--size", "1300", "--duration", "1s", "--i-own-this-server"}, append(bySecret, s.args...)...)
		out, err := s.client.command(binary, args...).Output()
		if exit, failed := errors.AsType[*exec.ExitError](err); !failed || exit.ExitCode() != 1 || !strings.Contains(string(out), "round trip   unknown: nothing came back") {
			t.Errorf("got %v\n%s", err, out)
		}
		out, _ = s.client.command(binary, append(args, "--json")...).Output()
		var result map[string]any
		if err := json.Unmarshal(out, &result); err != nil || result["rtt"] != nil || result["loss"] != 1.0 {
			t.Errorf("%v in %s", err, out)
		}
		s.server.firewall(t)
	})

	// A request that the relay refuses for its form does not mean a wrong secret.
	expiry := time.Now().Add(time.Hour)
	seconds, millis := strconv.FormatInt(expiry.Unix(), 10), strconv.FormatInt(expiry.UnixMilli(), 10)
	urlSafe := func(password string) string {
		return strings.NewReplacer("+", "-", "/", "_").Replace(password)
	}
	different := expiry.Unix() // for which the two alphabets differ
	for password := mint(seconds); urlSafe(password) == password; password = mint(strconv.FormatInt(different, 10)) {
		different++
	}
	for _, tt := range []struct{ name, username, password, text string }{
		{"expiry in milliseconds, wrong password", millis, mint(seconds), "the relay refuses the credential (Allocate: 401 Unauthenticated): the expiry is in milliseconds"},
		{"27 characters", seconds, strings.TrimSuffix(mint(seconds), "="), "the password has 27 characters"},
		{"URL-safe", strconv.FormatInt(different, 10), urlSafe(mint(strconv.FormatInt(different, 10))), "URL-safe alphabet of base64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := s.probe(t, "--quick", fmt.Sprintf("turn.test:3478:%s:%s", tt.username, tt.password))
			wantVerdict(t, r, "value.form", probe.Failure, tt.text)
		})
	}
}
