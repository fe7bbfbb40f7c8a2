package e2e

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// uclientModes are those of coturn's client that TestFamilies and TestRelayBetweenTwoClients leave out, and that work. Others are
// in TestRefusedModes and TestRoughModes, but for two: -h never ends, and -b is for SCTP, which mailturn does not offer and
// many kernels do not have.
var uclientModes = []struct {
	name    string
	clients int
	options []string
}{
	{"DONT-FRAGMENT", 2, []string{"-g"}},
	{"DONT-FRAGMENT in indications", 2, []string{"-g", "-s"}},
	{"padded channel data", 2, []string{"-D", "-l", "101"}},
	{"data of a length that is no multiple of 4", 2, []string{"-l", "101"}},
	{"extra requests", 2, []string{"-G"}},
	{"without RTCP", 2, []string{"-c"}},
	{"indications", 2, []string{"-s"}},
	{"long indications", 2, []string{"-s", "-l", "1400"}},
	{"channels without permissions", 2, []string{"-I"}}, // a channel installs one (RFC 8656 section 12)
	{"mobility, which is not offered", 2, []string{"-M"}},
	{"OAuth, which is not offered", 2, []string{"-J"}},
	{"BANDWIDTH", 2, []string{"-a", "100000"}}, // of a draft; an optional attribute, which is ignored
	{"ORIGIN", 2, []string{"-o", "https://example.org"}},
	{"another local address", 2, []string{"-L", "127.0.0.3"}},
	{"a credential of its own", 2, []string{"-W", secret}},
	{"a credential of its own with another separator", 2, []string{"-W", secret, "-C", "%"}},
	{"many clients", 20, nil},
}

// TestClientModes runs coturn's client in its modes towards a peer.
func TestClientModes(t *testing.T) {
	t.Parallel()
	peer(t, "turnutils_uclient", "coturn")
	version := programVersion(t, peer(t, "turnserver", "coturn"), "--version")
	stateDir, p := t.TempDir(), freePorts(t)
	// Over UDP, what a client leaves counts against its user until it expires.
	s := start(t, stateDir, "--config", configure(t, p, allowLoopback+"\nuser_quota = 0", ""))
	c := minted("127.0.0.1")
	for transport, transportOptions := range map[string][]string{"UDP": nil, "TCP": {"-t"}} {
		t.Run(transport, func(t *testing.T) {
			for _, tt := range uclientModes {
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					const messages = 10
					port, count := echoPeer(t)
					options := []string{"-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", strconv.Itoa(messages), "-m", strconv.Itoa(tt.clients)}
					options = append(append(options, tt.options...), transportOptions...)
					uclient(t, c, p.turn, options...).wantAll(t, tt.clients*messages)
					if got := count(); got != tt.clients*messages {
						t.Errorf("the peer got %d datagrams, want %d", got, tt.clients*messages)
					}
				})
			}
			t.Cleanup(func() { // after the modes, which run in parallel
				interop.Record(t, interop.Cell{
					Kind: interop.Client, Name: "coturn's turnutils_uclient", Version: version, How: bySharedSecret + ", in other modes",
					Transport: transport, Family: "IPv4", Figures: strconv.Itoa(len(uclientModes)) + " modes", Control: refusedModes,
				})
			})
		})
	}
	t.Run("random disconnects", func(t *testing.T) {
		t.Parallel()
		// The client drops connections at any time; the server ends their allocations and continues.
		port, _ := echoPeer(t)
		uclient(t, c, p.turn, "-t", "-B", "-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", "10", "-m", "5")
		s.waitFor(t, s.stderr, "allocation.reason=connection_closed")
	})
}

// refusedModes is what TestRefusedModes sees fail, in docs/interop.md.
const refusedModes = "relay over TCP; channel numbers at random; indications without permission; another secret"

// TestRefusedModes runs coturn's client in modes in which nothing may be relayed.
func TestRefusedModes(t *testing.T) {
	t.Parallel()
	p := freePorts(t)
	start(t, t.TempDir(), "--config", configure(t, p, allowLoopback+"\nmax_guesses = 0", ""))
	for _, tt := range []struct {
		name    string
		options []string
		reason  string
	}{
		{"relay over TCP", []string{"-T"}, "error 442"},
		{"passive relay over TCP", []string{"-P"}, "error 442"},
		{"channel numbers at random", []string{"-N"}, "channel bind: error 400"},
		{"indications without permission", []string{"-I", "-s"}, "100.000000%"},
		{"another secret", []string{"-W", "another secret"}, "Cannot complete Allocation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			port, count := echoPeer(t)
			options := append([]string{"-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", "5", "-m", "2"}, tt.options...)
			uclient(t, minted("127.0.0.1"), p.turn, options...).wantNone(t, tt.reason)
			if got := count(); got != 0 {
				t.Errorf("the peer got %d datagrams, want none", got)
			}
		})
	}
}

// TestRoughModes floods the server with coturn's client, and sends it messages with random changes, and checks that others are
// served as before.
func TestRoughModes(t *testing.T) {
	t.Parallel()
	program := peer(t, "turnutils_uclient", "coturn")
	p := freePorts(t)
	s := start(t, t.TempDir(), "--config", configure(t, p, allowLoopback+"\nmax_guesses = 0", ""))
	c := minted("127.0.0.1")
	for _, tt := range []struct {
		name    string
		options []string
		limit   time.Duration
	}{
		{"flood", []string{"-O"}, 5 * time.Second},
		{"flood over TCP", []string{"-O", "-t"}, 5 * time.Second},
		// It waits for answers to what it has spoiled, and has to be ended.
		{"changed bytes", []string{"-R"}, 5 * time.Second},
		{"changed bytes over TCP", []string{"-R", "-t"}, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port, _ := echoPeer(t)
			to := []string{"-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", "10"}
			before := strings.Count(s.stderr.String(), "allocation made")
			for deadline := time.Now().Add(uclientLimit); strings.Count(s.stderr.String(), "allocation made") == before; {
				if time.Now().After(deadline) {
					t.Fatal("the client got no allocation, and so tried little")
				}
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				args := append(append([]string{"-m", "10", "-u", c.username, "-w", c.password, "-p", strconv.Itoa(p.turn)}, to...), tt.options...)
				_ = exec.CommandContext(ctx, program, append(args, c.host)...).Run()
				cancel()
			}
			uclient(t, c, p.turn, append(to, "-m", "2")...).wantAll(t, 20)
		})
	}
}
