package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// echoPeer is a peer that sends every datagram back, as turnutils_peer does, and counts them. It listens on port and on the
// port above it, where turnutils_uclient sends what stands for RTCP.
func echoPeer(t *testing.T) (port int, count func() int) {
	t.Helper()
	return echoPeerOn(t, "127.0.0.1")
}

// echoPeerOn is echoPeer on another address of loopback.
func echoPeerOn(t *testing.T, host string) (port int, count func() int) {
	t.Helper()
	var n atomic.Int64
	var done sync.WaitGroup
	pair := listenPair(t, host)
	for _, conn := range pair {
		done.Go(func() {
			buf := make([]byte, 65536)
			for {
				size, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				n.Add(1)
				conn.WriteTo(buf[:size], from)
			}
		})
	}
	t.Cleanup(func() {
		for _, conn := range pair {
			conn.Close()
		}
		done.Wait()
	})
	return pair[0].LocalAddr().(*net.UDPAddr).Port, func() int { return int(n.Load()) }
}

// listenPair binds two UDP sockets on ports that follow each other.
func listenPair(t *testing.T, host string) [2]net.PacketConn {
	t.Helper()
	for range 100 {
		first, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		second, err := net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(first.LocalAddr().(*net.UDPAddr).Port+1)))
		if err == nil {
			return [2]net.PacketConn{first, second}
		}
		first.Close()
	}
	t.Fatal("found no two free ports that follow each other")
	return [2]net.PacketConn{}
}

// transport is a way to reach a relay, and what has turnutils_uclient take it.
type transport struct {
	name    string
	options []string
	port    func(ports) int
}

var transports = []transport{
	{"UDP", nil, func(p ports) int { return p.turn }},
	{"TCP", []string{"-t"}, func(p ports) int { return p.turn }},
	{"TLS", []string{"-t", "-S"}, func(p ports) int { return p.turns }},
	{"DTLS", []string{"-S"}, func(p ports) int { return p.turns }},
}

// TestRelayToPeer sends the media of two users, each with the credential that IMAP gave it, through the relay to a peer.
func TestRelayToPeer(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { testRelayToPeer(t, e) })
	}
}

func testRelayToPeer(t *testing.T, e engine) {
	t.Parallel()
	peer(t, "turnutils_uclient", "coturn")
	stateDir, p := t.TempDir(), freePorts(t)
	s := start(t, stateDir, "--config", configureEngine(t, e, p, allowLoopback+manyAllocations, ""))
	alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	bob, _ := discover(t, p, stateDir, "bob@example.org", "builder")
	users := []struct {
		name       string
		credential credential
	}{{"alice", alice}, {"bob", bob}}

	for _, tt := range e.transports() {
		t.Run(tt.name, func(t *testing.T) {
			for _, user := range users {
				t.Run(user.name, func(t *testing.T) {
					t.Parallel()
					const clients, messages = 2, 20
					port, count := echoPeer(t)
					options := append([]string{"-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", strconv.Itoa(messages), "-m", strconv.Itoa(clients), "-l", "170"}, tt.options...)
					uclient(t, user.credential, tt.port(p), append(options, e.uclient...)...).wantAll(t, clients*messages)
					if got := count(); got != clients*messages {
						t.Errorf("the peer got %d datagrams, want %d", got, clients*messages)
					}
				})
			}
		})
	}

	s.waitFor(t, s.stderr, `msg="allocation ended"`)
	if e.name != mailturnEngine.name {
		return
	}
	// The event at the end of an allocation shows that it carried media both ways; turnutils_uclient also makes others.
	counted := regexp.MustCompile(`msg="allocation ended".* allocation\.to_peer_packets=[1-9]\d* .*allocation\.to_client_packets=[1-9]`)
	if log := s.stderr.String(); !counted.MatchString(log) {
		t.Error("no allocation counted packets each way at its end")
	}
}

// TestRelayBetweenTwoClients makes a call between two users of one server: each sends to the relayed address of the other. The
// configuration does not permit loopback.
func TestRelayBetweenTwoClients(t *testing.T) {
	t.Parallel()
	for _, e := range engines {
		stateDir, p := t.TempDir(), freePorts(t)
		start(t, stateDir, "--config", configureEngine(t, e, p, manyAllocations, ""))
		alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
		for _, tt := range e.transports() {
			for _, mode := range []struct {
				name    string
				options []string
			}{{"channels", nil}, {"indications", []string{"-s"}}} {
				t.Run(e.name+" "+tt.name+" "+mode.name, func(t *testing.T) {
					t.Parallel()
					options := slices.Concat([]string{"-y", "-n", "10", "-m", "2", "-l", "101"}, tt.options, mode.options, e.uclient)
					uclient(t, alice, tt.port(p), options...).wantAllBack(t)
				})
			}
		}
	}
}

// TestRelayBehindNAT makes a call between two clients of a server whose public address is not on an interface, as behind the NAT of
// a cloud. The NAT does not return packets to the public address.
func TestRelayBehindNAT(t *testing.T) {
	const public = "203.0.113.7"
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			stateDir, p := t.TempDir(), freePorts(t)
			path := configureEngine(t, e, p, `relay_bind = "127.0.0.1"`, "")
			text, err := os.ReadFile(path)
			must(t, err)
			must(t, os.WriteFile(path, bytes.Replace(text, []byte(`relay_ip     = "127.0.0.1"`), []byte(`relay_ip = "`+public+`"`), 1), 0o600))
			start(t, stateDir, "--config", path)
			alice, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
			call := func(network string) *turnclient.Client {
				conn, err := net.Dial(network, net.JoinHostPort("127.0.0.1", strconv.Itoa(p.turn)))
				must(t, err)
				client := turnclient.New(turnclient.Config{Conn: conn, Stream: network == "tcp", Username: alice.username, Password: alice.password})
				t.Cleanup(func() { client.Close() })
				_, err = client.Challenge(t.Context())
				must(t, err)
				return client
			}
			caller, called := call("udp"), call("tcp")
			got := make(chan string, 1)
			called.Handle(func(d turnclient.Data) { got <- string(d.Payload) })
			from, err := caller.Allocate(t.Context())
			must(t, err)
			to, err := called.Allocate(t.Context())
			must(t, err)
			if from.Relayed.Addr().String() != public {
				t.Errorf("the relayed address is %v, want one of %s", from.Relayed, public)
			}
			must(t, called.CreatePermission(t.Context(), from.Relayed.Addr()))
			must(t, caller.ChannelBind(t.Context(), stun.MinChannel, to.Relayed))
			must(t, caller.SendChannel(stun.MinChannel, []byte("through the NAT")))
			select {
			case text := <-got:
				if text != "through the NAT" {
					t.Errorf("got %q", text)
				}
			case <-time.After(uclientLimit):
				t.Error("nothing came")
			}
		})
	}
}

// refusedUclient is what TestRelayRefuses sees fail, in docs/interop.md.
const refusedUclient = "wrong password; expired credential; user name that was not issued; loopback peer; private peer"

func TestRelayRefuses(t *testing.T) {
	t.Parallel()
	eachUclient(t, func(t *testing.T, program uclientProgram) {
		for _, e := range engines {
			t.Run(e.name, func(t *testing.T) { testRelayRefuses(t, e, program) })
		}
	})
}

func testRelayRefuses(t *testing.T, e engine, program uclientProgram) {
	stateDir, p := t.TempDir(), freePorts(t)
	// coturn's client tries a wrong password 31 times before it gives up, and six clients would soon get no answers.
	lines := "max_guesses = 0"
	if e.name != mailturnEngine.name {
		lines = ""
	}
	start(t, stateDir, "--config", configureEngine(t, e, p, lines, ""))
	good, _ := discover(t, p, stateDir, "alice@example.org", "wonderland")
	expired := credential{host: "127.0.0.1", username: strconv.FormatInt(time.Now().Add(-time.Minute).Unix(), 10)}
	expired.password = mint(expired.username)
	tampered := good
	tampered.username += "0"
	wrong := good
	wrong.password = mint("1758650868")
	peerPort, peerCount := echoPeer(t)

	checks := make(map[string]func(*testing.T))
	for _, tt := range []struct {
		name       string
		credential credential
		peer       string
		reason     string
	}{
		{"wrong password", wrong, "127.0.0.1", e.saysCredential},
		{"expired credential", expired, "127.0.0.1", e.saysCredential},
		{"user name that was not issued", tampered, "127.0.0.1", e.saysCredential},
		{"loopback peer", good, "127.0.0.1", e.saysPort},
		{"private peer", good, "10.0.0.1", e.saysPeer},
		{"metadata service", good, "169.254.169.254", e.saysPeer},
	} {
		for _, transport := range e.transports() {
			options := append([]string{"-e", tt.peer, "-r", strconv.Itoa(peerPort), "-X", "-n", "1", "-m", "1", "-c"}, transport.options...)
			run := program.start(t, tt.credential, transport.port(p), options...)
			checks[tt.name+" over "+transport.name] = func(t *testing.T) { run.wait(t).wantNone(t, tt.reason) }
		}
	}
	for name, check := range checks {
		t.Run(name, check)
	}
	if got := peerCount(); got != 0 {
		t.Errorf("%d datagrams reached a peer that must not be reached", got)
	}
}

// mint computes a password as documented for coturn's REST API: base64(HMAC-SHA1(secret, user name)).
func mint(username string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// TestOnePortEveryTransport prefers TLS, so that both metadata values carry one port, and uses it over every transport: a
// client that knows only the first value sends UDP there.
func TestOnePortEveryTransport(t *testing.T) {
	t.Parallel()
	stateDir, p := t.TempDir(), freePorts(t)
	p.turns = p.turn
	start(t, stateDir, "--config", configure(t, p, "", "turn_prefer_tls = true"))
	turn, turns := discover(t, p, stateDir, "alice@example.org", "wonderland")
	if want := strconv.Itoa(p.turn); turn.port != want || turns.port != want {
		t.Errorf("got the ports %s and %s, want %s in both", turn.port, turns.port, want)
	}
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			t.Parallel()
			uclient(t, turn, p.turn, append([]string{"-y", "-n", "5", "-m", "2"}, transport.options...)...).wantAllBack(t)
		})
	}
}
