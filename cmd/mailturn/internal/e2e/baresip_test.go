package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// phoneCall is how long a call lasts. RTCP reports every five seconds.
const phoneCall = 8 * time.Second

// phone is a running baresip. It exchanges SIP with others directly, and audio, a sine, over the relay.
type phone struct {
	output *lines
	cmd    *exec.Cmd
}

// startPhone runs baresip for so many seconds, with the relay at host. It answers calls, and makes one if callee, a SIP URI, is
// not empty.
func startPhone(t *testing.T, ns namespace, name, address, host string, turn credential, seconds int, callee string) *phone {
	t.Helper()
	program := peer(t, "baresip", "baresip-core")
	dir := t.TempDir()
	account := fmt.Sprintf("<sip:%s@%s>;regint=0;answermode=auto;medianat=turn;stunserver=turn:%s;stunuser=%s;stunpass=%s\n",
		name, bracketed(address), net.JoinHostPort(host, turn.port), turn.username, turn.password)
	configuration := fmt.Sprintf(`sip_listen %s
audio_source ausine,440
audio_player aubridge,nil
audio_alert aubridge,nil
rtp_stats yes
module_path /usr/lib/baresip/modules
module opus.so
module ausine.so
module aubridge.so
module turn.so
module_tmp account.so
module_app menu.so
`, net.JoinHostPort(address, "5060"))
	for file, text := range map[string]string{"config": configuration, "accounts": account, "contacts": ""} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	family := "-4"
	if strings.Contains(address, ":") {
		family = "-6"
	}
	args := []string{family, "-f", dir, "-n", "uplink", "-t", strconv.Itoa(seconds)}
	if callee != "" {
		args = append(args, "-e", "d "+callee)
	}
	p := &phone{output: &lines{}, cmd: ns.command(program, args...)}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(agentLimit, func() { p.cmd.Process.Kill() })
	t.Cleanup(func() {
		limit.Stop()
		p.cmd.Process.Kill()
		p.cmd.Wait()
		if t.Failed() {
			t.Logf("baresip of %s wrote:\n%s", name, p.output)
		}
	})
	return p
}

func bracketed(address string) string {
	if strings.Contains(address, ":") {
		return "[" + address + "]"
	}
	return address
}

// waitFor waits until baresip has written a line with the text.
func (p *phone) waitFor(t *testing.T, text string) {
	t.Helper()
	for deadline := time.After(agentLimit); ; {
		line, changed := p.output.find(0, text)
		if line != "" {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("baresip did not write %q in %v:\n%s", text, agentLimit, p.output)
		}
	}
}

// callFigures are lines of the table that baresip writes after a call: transmitted, then received.
var callFigures = regexp.MustCompile(`(?m)^(packets|lost|jitter):\s+([\d.]+)\s+([\d.]+)`)

// figures returns what baresip counted in the call; the jitter is in milliseconds.
func (p *phone) figures(t *testing.T) (sent, received, lost int, jitter string) {
	t.Helper()
	found := make(map[string][]string)
	for _, m := range callFigures.FindAllStringSubmatch(p.output.String(), -1) {
		found[m[1]] = m[2:]
	}
	number := func(name string, column int) int {
		t.Helper()
		if found[name] == nil {
			t.Fatalf("no %s in what baresip wrote:\n%s", name, p.output)
		}
		n, err := strconv.Atoi(found[name][column])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sent, received, lost = number("packets", 0), number("packets", 1), number("lost", 1)
	return sent, received, lost, found["jitter"][1]
}

// signalling makes the relay's machine forward only SIP between the two users.
func (n callNetwork) signalling(t *testing.T) {
	t.Helper()
	nft := n.relay.command(peer(t, "nft", "nftables"), "-f", "-")
	nft.Stdin = strings.NewReader(`table inet signalling {
  chain forward {
    type filter hook forward priority 0; policy drop;
    udp dport 5060 accept
  }
}
`)
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	forward := "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"
	if out, err := n.relay.command("sh", "-ec", forward).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestBaresip makes calls between two instances of baresip, whose audio passes only through the relay. baresip asks for no address
// family, so over IPv6 the relay has to assign an address of the client's family.
func TestBaresip(t *testing.T) {
	t.Parallel()
	n := newCallNetwork(t)
	n.signalling(t)
	certs := newCertificates(t)
	s := n.startRelay(t, configureNetwork(t, certs.block(), `default_family = "client"`))
	version := programVersion(t, peer(t, "baresip", "baresip-core"), "-h")
	for _, family := range []struct{ name, relay, alice, bob string }{
		{"IPv4", relayIPv4, "10.75.1.2", "10.75.2.2"},
		{"IPv6", relayIPv6, "fd75:1::2", "fd75:2::2"},
	} {
		t.Run(family.name, func(t *testing.T) {
			t.Parallel()
			seconds := int(phoneCall.Seconds())
			turn, _ := n.bob.discover(t, certs, "bob@example.org", "builder")
			bob := startPhone(t, n.bob, "bob", family.bob, family.relay, turn, 4*seconds, "")
			bob.waitFor(t, "baresip is ready")
			turn, _ = n.alice.discover(t, certs, "alice@example.org", "wonderland")
			alice := startPhone(t, n.alice, "alice", family.alice, family.relay, turn, seconds, "sip:bob@"+bracketed(family.bob))
			var figures string
			for _, p := range []*phone{alice, bob} {
				p.waitFor(t, "jitter:")
				sent, received, lost, jitter := p.figures(t)
				if wanted := 50 * (seconds - 2); sent < wanted || received < wanted || lost > received/100 {
					t.Errorf("baresip sent %d packets, received %d, lost %d, want %d each way and none lost", sent, received, lost, wanted)
				}
				if figures == "" {
					figures = fmt.Sprintf("%d of %d packets lost, jitter %s ms", lost, received+lost, jitter)
				}
				// Its audio came from the relayed address of the other.
				m := regexp.MustCompile(`incoming rtp for 'audio' established, receiving from (\S+)`).FindStringSubmatch(p.output.String())
				if m == nil {
					t.Fatalf("baresip does not say where its audio came from:\n%s", p.output)
				}
				ended := s.waitFor(t, s.stderr, "allocation.relay="+m[1]+" allocation.reason=client")
				if got := counter(t, ended, "to_peer_packets"); got < uint64(received) {
					t.Errorf("the relay sent %d packets from %s, and baresip received %d", got, m[1], received)
				}
			}
			interop.Record(t, interop.Cell{
				Kind: interop.Client, Name: "baresip", Version: version, How: overMetadata, Transport: "UDP", Family: family.name,
				Figures: figures, Control: "wrong secret",
			})
		})
	}
}

// TestBaresipRefused checks that a wrong secret prevents a call.
func TestBaresipRefused(t *testing.T) {
	n := newCallNetwork(t)
	n.signalling(t)
	s := n.startRelay(t, configureNetwork(t, newCertificates(t).block(), `default_family = "client"`))
	turn := minted(relayIPv4)
	turn.port = "3478"
	bob := startPhone(t, n.bob, "bob", "10.75.2.2", relayIPv4, turn, 30, "")
	bob.waitFor(t, "baresip is ready")
	turn.password = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
	alice := startPhone(t, n.alice, "alice", "10.75.1.2", relayIPv4, turn, 30, "sip:bob@10.75.2.2")
	alice.waitFor(t, "medianat failed: 401")
	if text := alice.output.String() + bob.output.String(); strings.Contains(text, "established") {
		t.Errorf("a call was made:\n%s", text)
	}
	if log := s.stderr.String(); strings.Contains(log, "allocation made") {
		t.Errorf("there was an allocation:\n%s", log)
	}
}
