package e2e

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// A uclientMode is a way to run coturn's client.
type uclientMode struct {
	name    string
	clients int
	options []string
}

// uclientModes are those of coturn's client that TestFamilies and TestRelayBetweenTwoClients leave out, and that work. Others are
// in TestRefusedModes and TestRoughModes, but for two: -h never ends, and -b is for SCTP, which mailturn does not offer and
// many kernels do not have.
var uclientModes = []uclientMode{
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
	{"a network interface", 2, []string{"-d", "lo"}},
	{"a credential of its own", 2, []string{"-W", secret}},
	{"a credential of its own with another separator", 2, []string{"-W", secret, "-C", "%"}},
	{"a packet every millisecond", 2, []string{"-z", "1"}},
	{"many clients", 20, nil},
}

// newUclientModes are those that only coturn's client of Debian testing has.
var newUclientModes = []uclientMode{
	{"threads", 8, []string{"--listener-threads", "4", "--sender-threads", "4"}},
	{"without threads", 8, []string{"--listener-threads", "0", "--sender-threads", "0"}},
	{"without EVEN-PORT", 2, []string{"-c", "--no-even-port"}},
	{"load", 8, []string{"-Y", "packet"}},
}

// secureUclientModes are about the connection. The client does not check a certificate, whatever authorities -E names.
func secureUclientModes(certs certificates) []uclientMode {
	return []uclientMode{
		{"authorities", 2, []string{"-E", certs.ca}},
		{"a certificate of its own, which is not asked for", 2, []string{"-i", certs.cert, "-k", certs.key}},
		{"a cipher suite", 2, []string{"-F", "ECDHE-ECDSA-AES128-GCM-SHA256"}},
	}
}

// TestClientModes runs coturn's client in its modes towards a peer.
func TestClientModes(t *testing.T) {
	t.Parallel()
	eachUclient(t, testClientModes)
}

func testClientModes(t *testing.T, program uclientProgram) {
	p := freePorts(t)
	// Over UDP, what a client leaves counts against its user until it expires.
	s := start(t, t.TempDir(), "--config", configure(t, p, allowLoopback+"\nuser_quota = 0", ""))
	c := minted("127.0.0.1")
	modes := uclientModes
	if program.root != nil {
		modes = slices.Concat(modes, newUclientModes)
	}
	secure := secureUclientModes(newCertificates(t))
	for _, tt := range transports {
		modes := modes
		if tt.name == "TLS" || tt.name == "DTLS" {
			modes = secure
		}
		t.Run(tt.name, func(t *testing.T) {
			program.runModes(t, c, tt, tt.port(p), modes)
			interop.Record(t, interop.Cell{
				Kind: interop.Client, Name: program.name, Version: program.version, How: bySharedSecret + ", in other modes",
				Transport: tt.name, Family: "IPv4", Figures: strconv.Itoa(len(modes)) + " modes", Control: refusedModes,
			})
		})
	}
	t.Run("random disconnects", func(t *testing.T) {
		// The client drops connections at any time. The server must end their allocations and continue.
		port, _ := echoPeer(t)
		program.start(t, c, p.turn, "-t", "-B", "-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", "10", "-m", "5").wait(t)
		s.waitFor(t, s.stderr, "allocation.reason=connection_closed")
	})
}

// runModes runs the client in all modes at the same time, because it mostly waits, and checks that everything that it sends comes
// back.
func (p uclientProgram) runModes(t *testing.T, c credential, over transport, port int, modes []uclientMode) {
	t.Helper()
	const messages = 10
	checks := make([]func(*testing.T), len(modes))
	for i, mode := range modes {
		peerPort, count := echoPeer(t)
		options := []string{"-e", "127.0.0.1", "-r", strconv.Itoa(peerPort), "-X", "-n", strconv.Itoa(messages), "-m", strconv.Itoa(mode.clients)}
		run := p.start(t, c, port, slices.Concat(options, mode.options, over.options)...)
		checks[i] = func(t *testing.T) {
			run.wait(t).wantAll(t, mode.clients*messages)
			if got := count(); got != mode.clients*messages {
				t.Errorf("the peer got %d datagrams, want %d", got, mode.clients*messages)
			}
		}
	}
	for i, mode := range modes {
		t.Run(mode.name, checks[i])
	}
}

// refusedModes is what TestRefusedModes sees fail, in docs/interop.md.
const refusedModes = "relay over TCP; channel numbers at random; indications without permission; another secret; cipher suites that are too weak"

// TestRefusedModes runs coturn's client in modes that must not get anything through.
func TestRefusedModes(t *testing.T) {
	t.Parallel()
	eachUclient(t, testRefusedModes)
}

func testRefusedModes(t *testing.T, program uclientProgram) {
	p := freePorts(t)
	start(t, t.TempDir(), "--config", configure(t, p, allowLoopback+"\nmax_guesses = 0", ""))
	type refusedMode struct {
		name    string
		port    int
		options []string
		reason  string
	}
	tests := []refusedMode{
		{"relay over TCP", p.turn, []string{"-T"}, "error 442"},
		{"passive relay over TCP", p.turn, []string{"-P"}, "error 442"},
		{"channel numbers at random", p.turn, []string{"-N"}, "channel bind: error 400"},
		{"indications without permission", p.turn, []string{"-I", "-s"}, "100.000000%"},
		{"another secret", p.turn, []string{"-W", "another secret"}, "Cannot complete Allocation"},
		{"weak cipher suites", p.turns, []string{"-S", "-F", "AES256-SHA256"}, "insufficient security"},
		{"no encryption", p.turns, []string{"-S", "-U"}, "no ciphers available"},
	}
	if program.root != nil {
		tests = append(tests, refusedMode{"reservation that was not made", p.turn, []string{"--no-even-port"}, "error 508"})
	}
	checks := make([]func(*testing.T), len(tests))
	for i, tt := range tests {
		port, count := echoPeer(t)
		options := append([]string{"-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", "5", "-m", "2"}, tt.options...)
		run := program.start(t, minted("127.0.0.1"), tt.port, options...)
		checks[i] = func(t *testing.T) {
			run.wait(t).wantNone(t, tt.reason)
			if got := count(); got != 0 {
				t.Errorf("the peer got %d datagrams, want none", got)
			}
		}
	}
	for i, tt := range tests {
		t.Run(tt.name, checks[i])
	}
}

// floodPeers are what -Y alloc asks permissions for: addresses for measurements (RFC 2544), which are refused otherwise.
const floodPeers = `peers {
    allow = ["198.18.0.0/15"]
  }`

// TestAllocationFlood makes allocations with coturn's client as fast as possible, with one permission each. All must succeed. The
// relay refuses the permissions unless its configuration allows them.
func TestAllocationFlood(t *testing.T) {
	t.Parallel()
	eachUclient(t, func(t *testing.T, program uclientProgram) {
		if program.root == nil {
			return // Debian 12's has no such mode
		}
		const clients, allocations = 4, 50
		flood := []string{"-Y", "alloc", "-m", strconv.Itoa(clients), "-n", strconv.Itoa(allocations)}
		for _, transport := range transports[:2] {
			t.Run(transport.name, func(t *testing.T) {
				p := freePorts(t)
				s := start(t, t.TempDir(), "--config", configure(t, p, floodPeers+manyAllocations, ""))
				out := program.start(t, minted("127.0.0.1"), p.turn, slices.Concat(flood, transport.options)...).finish(t)
				if want := "total_allocations=" + strconv.Itoa(clients*allocations); !strings.Contains(out, want) {
					t.Errorf("turnutils_uclient did not say %q:\n%s", want, out)
				}
				s.stop(t) // the log is complete
				if got := strings.Count(s.stderr.String(), "allocation made"); got < clients*allocations {
					t.Errorf("the relay made %d allocations, want %d", got, clients*allocations)
				}
			})
		}
		t.Run("refused peer", func(t *testing.T) {
			p := freePorts(t)
			start(t, t.TempDir(), "--config", configure(t, p, manyAllocations, ""))
			const refused = "create permission error 403"
			if out := program.start(t, minted("127.0.0.1"), p.turn, slices.Clone(flood)...).finish(t); !strings.Contains(out, refused) {
				t.Errorf("turnutils_uclient did not say %q:\n%s", refused, out)
			}
		})
	})
}

// TestRoughModes has coturn's client flood the server, and send it messages with bytes changed at random. Others are served as
// before.
func TestRoughModes(t *testing.T) {
	t.Parallel()
	eachUclient(t, testRoughModes)
}

func testRoughModes(t *testing.T, program uclientProgram) {
	p := freePorts(t)
	s := start(t, t.TempDir(), "--config", configure(t, p, allowLoopback+"\nmax_guesses = 0"+manyAllocations, ""))
	c := minted("127.0.0.1")
	const limit = 5 * time.Second // some wait for answers to what they have spoiled, and have to be ended
	type roughMode struct {
		name    string
		options []string
		seen    string // in the relay's log, of a client that tried something
	}
	tests := []roughMode{
		{"flood", []string{"-O"}, "allocation made"},
		{"flood over TCP", []string{"-O", "-t"}, "allocation made"},
		{"changed bytes", []string{"-R"}, "allocation made"},
		{"changed bytes over TCP", []string{"-R", "-t"}, "allocation made"},
	}
	if program.root != nil {
		// First, since the log has one line a minute about what is malformed.
		tests = slices.Insert(tests, 0, roughMode{"invalid messages", []string{"-Y", "invalid"}, "reason=malformed"})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			port, _ := echoPeer(t)
			to := []string{"-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", "10"}
			before := strings.Count(s.stderr.String(), tt.seen)
			for deadline := time.Now().Add(uclientLimit); strings.Count(s.stderr.String(), tt.seen) == before; {
				if time.Now().After(deadline) {
					t.Fatalf("the client tried little: no %q in the relay's log", tt.seen)
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				args := slices.Concat([]string{"-m", "10", "-u", c.username, "-w", c.password, "-p", strconv.Itoa(p.turn)}, to, tt.options, []string{c.host})
				_ = program.command(t, ctx, "turnutils_uclient", args...).Run()
				cancel()
			}
			program.start(t, c, p.turn, append(to, "-m", "2")...).wait(t).wantAll(t, 20)
		})
	}
}
