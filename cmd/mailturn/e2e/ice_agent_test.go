package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/interop"
)

// agentLimit is how long two agents may take for a connection.
const agentLimit = 60 * time.Second

// systemPython is Debian's, which sees Debian's modules.
const systemPython = "/usr/bin/python3"

// pythonModule wants a module of systemPython to be there, as peer does a program.
func pythonModule(t *testing.T, imports, debianPackages string) {
	t.Helper()
	if out, err := exec.Command(systemPython, "-c", imports).CombinedOutput(); err != nil {
		lacks(t, "apt-get install %s: %s", debianPackages, out)
	}
}

// agent is a script of testdata that is one end of an ICE connection, and talks in lines of JSON.
type agent struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output *bufio.Reader
	stderr *lines
}

func startAgent(t *testing.T, ns namespace, script string, env []string, args ...string) *agent {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", script))
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{cmd: ns.command(systemPython, append([]string{path}, args...)...), stderr: &lines{}}
	a.cmd.Env = append(os.Environ(), env...)
	a.cmd.Stderr = a.stderr
	if a.input, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.output = bufio.NewReader(stdout)
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(agentLimit, func() { a.cmd.Process.Kill() })
	t.Cleanup(func() {
		limit.Stop()
		a.cmd.Process.Kill()
		a.cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", script, a.stderr)
		}
	})
	return a
}

// line reads one line.
func (a *agent) line(t *testing.T) string {
	t.Helper()
	line, err := a.output.ReadString('\n')
	if err != nil {
		t.Fatalf("%v: no line within %v (%v):\n%s", a.cmd.Args[4:], agentLimit, err, a.stderr)
	}
	return line
}

// connected is what an agent writes at the end.
type connected struct {
	Relay    string `json:"relay"`    // its relayed address
	Type     string `json:"type"`     // of its candidate
	Received int    `json:"received"` // packets
	Lost     int    `json:"lost"`
}

// iceAgents are the kinds of agents.
var iceAgents = []struct {
	name, script            string
	imports, debianPackages string
	version                 []string // command that prints it
	transports              []string
	refused                 string // what TestICEAgentsRefused sees fail, in docs/interop.md
}{
	{
		"aioice", "aioice_agent.py", "import aioice", "python3-aioice",
		[]string{systemPython, "-c", "import aioice; print(aioice.__version__)"}, []string{"UDP", "TCP", "TLS"},
		"wrong secret; unknown CA; certificate of another name",
	},
	{
		// Its TLS is not TLS, but what Google's relays once took for it.
		"libnice in GStreamer", "libnice_agent.py",
		"import gi; gi.require_version('Gst', '1.0'); gi.require_version('Nice', '0.1'); from gi.repository import Gst; Gst.init(None); Gst.parse_launch('nicesrc ! rtpopusdepay ! opusdec ! opusenc ! nicesink')",
		"python3-gi gir1.2-gstreamer-1.0 gir1.2-nice-0.1 gstreamer1.0-tools gstreamer1.0-nice gstreamer1.0-plugins-good gstreamer1.0-plugins-base",
		[]string{"sh", "-c", "gst-inspect-1.0 nicesrc | grep Version"}, []string{"UDP", "TCP"},
		"wrong secret",
	},
}

// TestICEAgents connects ICE agents that are no browsers over the relay alone, each with the relay that it learned over
// IMAP, and wants every packet to arrive.
func TestICEAgents(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	s := n.startRelay(t, configureNetwork(t, certs.block(), ""))

	for _, kind := range iceAgents {
		for _, transport := range kind.transports {
			for _, family := range []string{"IPv4", "IPv6"} {
				t.Run(kind.name+" over "+transport+" and "+family, func(t *testing.T) {
					t.Parallel()
					pythonModule(t, kind.imports, kind.debianPackages)
					const count = 250
					var agents []*agent
					for i, ns := range []namespace{n.alice, n.bob} {
						turn, turns := ns.discover(t, certs, []string{"alice@example.org", "bob@example.org"}[i], []string{"wonderland", "builder"}[i])
						host, port := map[string]string{"IPv4": relayIPv4, "IPv6": relayIPv6}[family], turn.port
						if transport == "TLS" { // by the name, for the certificate
							host, port = map[string]string{"IPv4": relayName, "IPv6": relayName6}[family], turns.port
						}
						agents = append(agents, startAgent(t, ns, kind.script, []string{"SSL_CERT_FILE=" + certs.ca},
							[]string{"controlling", "controlled"}[i], host, port, strings.ToLower(transport), turn.username, turn.password, "250"))
					}
					descriptions := []string{agents[0].line(t), agents[1].line(t)}
					io.WriteString(agents[0].input, descriptions[1])
					io.WriteString(agents[1].input, descriptions[0])
					counted := []string{agents[0].line(t), agents[1].line(t)}
					for i, a := range agents {
						var c connected
						if err := json.Unmarshal([]byte(counted[i]), &c); err != nil {
							t.Fatal(err)
						}
						if c.Type != "relay" || c.Received < count || c.Lost != 0 {
							t.Errorf("got %+v, want %d packets over a relayed candidate and none lost", c, count)
						}
						a.input.Close()
						ended := s.waitFor(t, s.stderr, "allocation.relay="+c.Relay+" allocation.reason=client")
						for _, direction := range []string{"to_peer_packets", "to_client_packets"} {
							if got := counter(t, ended, direction); got < count {
								t.Errorf("%s is %d, want at least %d", direction, got, count)
							}
						}
					}
					interop.Record(t, interop.Cell{
						Kind: interop.Client, Name: kind.name, Version: programVersion(t, kind.version[0], kind.version[1:]...), How: overMetadata,
						Transport: transport, Family: family, Figures: "0 packets lost", Control: kind.refused,
					})
				})
			}
		}
	}
}

// TestICEAgentsRefused wants a wrong secret, and a certificate that the agent does not trust, to end the agents without a
// candidate.
func TestICEAgentsRefused(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	s := n.startRelay(t, configureNetwork(t, certs.block(), ""))
	good := minted(relayIPv4)
	for _, kind := range iceAgents {
		t.Run(kind.name, func(t *testing.T) {
			pythonModule(t, kind.imports, kind.debianPackages)
			for _, tt := range []struct {
				name, host, port, transport, password string
				env                                   []string
				reason                                string // that aioice gives; libnice describes itself without a candidate
			}{
				{"wrong secret", relayIPv4, "3478", "udp", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", nil, "401"},
				{"wrong secret over TCP", relayIPv4, "3478", "tcp", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", nil, "401"},
				{"unknown CA", relayName, "5349", "tls", good.password, nil, "CERTIFICATE_VERIFY_FAILED"},
				{"certificate of another name", otherName, "5349", "tls", good.password, []string{"SSL_CERT_FILE=" + certs.ca}, "CERTIFICATE_VERIFY_FAILED"},
			} {
				if !slices.Contains(kind.transports, strings.ToUpper(tt.transport)) {
					continue
				}
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					a := startAgent(t, n.alice, kind.script, tt.env, "controlling", tt.host, tt.port, tt.transport, good.username, tt.password, "1")
					line, err := a.output.ReadString('\n')
					a.input.Close()
					if err == nil && strings.Contains(line, "typ relay") {
						t.Errorf("the agent has a candidate: %s", line)
					}
					if kind.name == "aioice" {
						a.cmd.Wait()
						if !strings.Contains(a.stderr.String(), tt.reason) {
							t.Errorf("the agent did not say %q:\n%s", tt.reason, a.stderr)
						}
					} else if !strings.Contains(line, "a=ice-ufrag") {
						t.Errorf("the agent did not describe itself (%v): %s", err, line)
					}
				})
			}
		})
	}
	if log := s.stderr.String(); strings.Contains(log, "allocation made") {
		t.Errorf("there was an allocation:\n%s", log)
	}
}
