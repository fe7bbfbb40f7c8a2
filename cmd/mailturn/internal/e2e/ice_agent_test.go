package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// agentLimit is how long two agents may take for a connection.
const agentLimit = 60 * time.Second

// agentServer is the relay that an agent is to use.
type agentServer struct {
	host, port, transport, username, password string
}

// agentProgram is how an implementation of ICE is run.
type agentProgram interface {
	// connect connects two agents, each of which sends at least count packets or messages to the other. They have ended afterwards.
	connect(t *testing.T, namespaces []namespace, env []string, servers []agentServer, count int) []connected
	// describe returns the session description of an agent, which is empty if an agent without candidates makes none, and the other
	// output of the agent.
	describe(t *testing.T, ns namespace, env []string, server agentServer) (sdp, wrote string)
}

// connected is what came of a connection for one of its agents.
type connected struct {
	Relay     string  `json:"relay"`    // its relayed address
	Type      string  `json:"type"`     // of its candidate
	Received  int     `json:"received"` // packets, or messages of a data channel
	Lost      int     `json:"lost"`
	Bytes     int     `json:"bytes"`     // of a data channel
	RoundTrip float64 `json:"roundTrip"` // in milliseconds, over a data channel
}

func (c connected) figures() string {
	if c.Bytes == 0 {
		return fmt.Sprintf("%d packets lost", c.Lost)
	}
	return fmt.Sprintf("%d of %d messages lost, %d bytes received, round trip %.1f ms", c.Lost, c.Received+c.Lost, c.Bytes, c.RoundTrip)
}

// wantRelayed checks that the allocation of the agent has ended, and has relayed packets in both directions.
func (c connected) wantRelayed(t *testing.T, s *server, packets int) {
	t.Helper()
	ended := s.waitFor(t, s.stderr, "allocation.relay="+c.Relay+" allocation.reason=")
	for _, direction := range []string{"to_peer_packets", "to_client_packets"} {
		if got := counter(t, ended, direction); got < uint64(packets) {
			t.Errorf("%s is %d, want at least %d", direction, got, packets)
		}
	}
}

// TestICEAgents connects ICE agents other than browsers only through the relay, which each learned over IMAP, and checks that every
// packet arrives.
func TestICEAgents(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	s := n.startRelay(t, configureNetwork(t, certs.block(), ""))

	const count = 250
	type left struct {
		cell   interop.Cell
		agents []connected
	}
	var abandoned []left // by agents that do not end their allocations
	var mu sync.Mutex    // guards abandoned
	t.Run("connections", func(t *testing.T) {
		for _, kind := range agentKinds {
			for _, transport := range kind.transports {
				for _, family := range []string{"IPv4", "IPv6"} {
					t.Run(kind.name+" over "+transport+" and "+family, func(t *testing.T) {
						t.Parallel()
						kind.need(t)
						namespaces := []namespace{n.alice, n.bob}
						var servers []agentServer
						for i, ns := range namespaces {
							turn, turns := ns.discover(t, certs, []string{"alice@example.org", "bob@example.org"}[i], []string{"wonderland", "builder"}[i])
							host, port := map[string]string{"IPv4": relayIPv4, "IPv6": relayIPv6}[family], turn.port
							if transport == "TLS" || kind.names { // TLS by the name, for the certificate
								host = map[string]string{"IPv4": relayName, "IPv6": relayName6}[family]
							}
							if transport == "TLS" {
								port = turns.port
							}
							servers = append(servers, agentServer{host, port, strings.ToLower(transport), turn.username, turn.password})
						}
						results := kind.program.connect(t, namespaces, certs.environment(), servers, count)
						for _, c := range results {
							// A busy machine may lose a message of a data channel, which are not retransmitted.
							if c.Type != "relay" || c.Received+c.Lost < count || c.Lost > kind.mayLose {
								t.Errorf("got %+v, want %d packets over a relayed candidate and none lost", c, count)
							}
							if !kind.leaves {
								s.waitFor(t, s.stderr, "allocation.relay="+c.Relay+" allocation.reason=client")
								c.wantRelayed(t, s, count)
							}
						}
						cell := interop.Cell{
							Kind: interop.Client, Name: kind.name, Version: kind.version(t), How: overMetadata,
							Transport: transport, Family: family, Figures: results[0].figures(), Control: kind.refused,
						}
						if !kind.leaves {
							interop.Record(t, cell)
							return
						}
						mu.Lock()
						defer mu.Unlock()
						abandoned = append(abandoned, left{cell, results})
					})
				}
			}
		}
	})

	s.stop(t)
	for _, l := range abandoned {
		t.Run(fmt.Sprintf("what the relay counted for %s over %s and %s", l.cell.Name, l.cell.Transport, l.cell.Family), func(t *testing.T) {
			for _, c := range l.agents {
				c.wantRelayed(t, s, count)
			}
			interop.Record(t, l.cell)
		})
	}
}

// TestICEAgentsRefused checks that with a wrong secret, or a certificate that the agent does not trust, agents get no candidate.
func TestICEAgentsRefused(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	// Each wrong secret must be answered with an error, however many there are.
	s := n.startRelay(t, configureNetwork(t, certs.block(), "max_guesses = 0"))
	good := minted(relayIPv4)
	for _, kind := range agentKinds {
		t.Run(kind.name, func(t *testing.T) {
			kind.need(t)
			for _, tt := range []struct {
				name, host, port, transport, password string
				env                                   []string
				complaint                             string
			}{
				{"wrong secret", relayIPv4, "3478", "udp", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", nil, kind.complaints.secret},
				{"wrong secret over TCP", relayIPv4, "3478", "tcp", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", nil, kind.complaints.secret},
				{"unknown CA", relayName, "5349", "tls", good.password, nil, kind.complaints.certificate},
				{"certificate of another name", otherName, "5349", "tls", good.password, certs.environment(), kind.complaints.certificate},
			} {
				if !slices.Contains(kind.transports, strings.ToUpper(tt.transport)) {
					continue
				}
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					sdp, wrote := kind.program.describe(t, n.alice, tt.env, agentServer{tt.host, tt.port, tt.transport, good.username, tt.password})
					if strings.Contains(sdp, "typ relay") {
						t.Errorf("the agent has a candidate: %s", sdp)
					}
					if !strings.Contains(wrote, tt.complaint) {
						t.Errorf("the agent did not say %q:\n%s", tt.complaint, wrote)
					}
				})
			}
		})
	}
	if log := s.stderr.String(); strings.Contains(log, "allocation made") {
		t.Errorf("there was an allocation:\n%s", log)
	}
}
