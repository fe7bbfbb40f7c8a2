package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/deltachat"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// refusedDeltaChat is what TestDeltaChat and TestDeltaChatWithoutTURN see fail, in docs/interop.md.
const refusedDeltaChat = "a secret that is gone; no relay in METADATA"

// TestDeltaChatMedia makes video calls as Delta Chat's app does: core gives the browser the relays, and sends the browser's offer
// to the other side, and its answer back, in encrypted mail. The counters of the browsers and of the relay have to agree.
func TestDeltaChatMedia(t *testing.T) {
	for _, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) { testDeltaChatMedia(t, family) })
	}
}

func testDeltaChatMedia(t *testing.T, family string) {
	m := newMailHostOver(t, family)
	m.serve(t, mailName, "", "")
	v := newVideoUsers(t, m.newDeltaChat(t, "alice"), m.newDeltaChat(t, "bob"))
	for _, callee := range []browser.Kind{browser.Chromium, browser.Firefox} {
		his := startBrowser(t, callee, m.clients, "")
		for transport, length := range map[string]int{"UDP": 6, "TCP": 3} { // times five seconds
			t.Run(fmt.Sprintf("%s to %s over %s", v.hers.kind, callee, transport), func(t *testing.T) {
				v.call(t, his, transport, length, overMetadata)
			})
		}
	}
	c := v.alice.relay(t)
	m.wantAccepted(t, c)
	rewrite(t, m.server, m.config, strconv.Quote(secret), strconv.Quote("the secret of the following week"), "msg=reloaded")
	m.wantRefused(t, c)
}

// TestOldDeltaChat makes a video call between an old and a new version of Delta Chat.
func TestOldDeltaChat(t *testing.T) {
	m := newMailHost(t)
	m.serve(t, mailName, "", "")
	v := newVideoUsers(t, m.newOldDeltaChat(t, "alice"), m.newDeltaChat(t, "bob"), anyCertificate)
	v.call(t, startBrowser(t, browser.Chromium, m.clients, ""), "UDP", 3, overMetadata)
}

// anyCertificate is for an old Delta Chat, which knows the public authorities alone.
func anyCertificate(transport *deltachat.Transport) {
	transport.CertificateChecks = deltachat.AcceptInvalid
}

// TestDeltaChatDoors makes a video call between users whose Delta Chat connects directly to Dovecot, which asks mailturn for
// METADATA.
func TestDeltaChatDoors(t *testing.T) {
	for _, door := range []struct {
		kind, discovery string
		// configure returns the endpoint of mailturn at a path, and the path of the dictionary that Dovecot asks.
		configure func(t *testing.T, m *mailHost, path string) (endpoint, dictionary string)
	}{
		{"dict", "dict, for Dovecot", func(t *testing.T, m *mailHost, path string) (string, string) {
			return fmt.Sprintf("endpoint \"dict\" \"dovecot\" {\n  path = %q\n  mode = \"0666\"\n  turn_server = %q\n}\n", path, turnName), path
		}},
		// As a chatmail relay has it: its own daemon is the dictionary, and reads one line from the socket for each value.
		{"credsock", "credsock, for chatmail's dictionary", func(t *testing.T, m *mailHost, path string) (string, string) {
			d, dictionary := startDict(t, nil)
			d.credential = func() (string, error) {
				line, err := readCredential(path)
				return turnName + ":3478:" + line, err
			}
			return fmt.Sprintf("endpoint \"credsock\" \"chatmail\" {\n  path = %q\n}\n", path), dictionary
		}},
	} {
		t.Run(door.kind, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "door") // for Dovecot's user, and short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			var endpoint string
			m := newMailHost(t, func(m *mailHost, o *dovecot.Options) {
				var dictionary string
				endpoint, dictionary = door.configure(t, m, filepath.Join(dir, "door"))
				o.Host, o.AttributeDict = m.addr, "proxy:"+dictionary+":metadata"
			})
			m.serveDoor(t, endpoint)
			v := newVideoUsers(t, m.newDeltaChat(t, "alice"), m.newDeltaChat(t, "bob"), func(transport *deltachat.Transport) {
				_, port, _ := net.SplitHostPort(m.dovecot.Addr)
				transport.IMAPServer, transport.IMAPSecurity = m.addr, deltachat.Plain
				transport.IMAPPort, _ = strconv.Atoi(port)
			})
			v.call(t, startBrowser(t, browser.Chromium, m.clients, ""), "UDP", 3, door.discovery)
		})
	}
}

// readCredential reads a line from a socket within five seconds, as chatmail's metadata daemon does.
func readCredential(path string) (string, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// serveDoor starts mailturn with the relay and one further endpoint.
func (m *mailHost) serveDoor(t *testing.T, endpoint string) {
	t.Helper()
	text := fmt.Sprintf(`
hostname = %q
log {
  level = "debug"
}
endpoint "turn" "turn" {
  listen        = ["udp://%[2]s:3478"]
  secret        = %[3]q
  relay_ip      = %[2]q
  drain_timeout = "1s"
}
%[4]s`, turnName, m.addr, secret, endpoint)
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start(t)
}

// videoUsers are two people who may call each other, and the browser of her who calls.
type videoUsers struct {
	host       *mailHost
	alice, bob *user
	withBob    uint32
	hers       participant
}

// newVideoUsers gives two people their mailboxes, makes them known to each other, and starts her browser.
func newVideoUsers(t *testing.T, alice, bob *user, edits ...func(*deltachat.Transport)) videoUsers {
	t.Helper()
	// Firefox has no address of its own to offer without a default route, and then does not look for relays either.
	m := alice.host
	// 153 gathers nothing on a network without IPv4 either.
	for _, router := range m.routers {
		if out, err := exec.Command("ip", "-n", string(m.clients), "route", "add", "default", "via", router).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	v := videoUsers{host: m, alice: alice, bob: bob}
	v.alice.configure(t, edits...)
	v.bob.configure(t, edits...)
	v.withBob, _ = befriend(t, v.alice, v.bob)
	v.hers = startBrowser(t, browser.Chromium, m.clients, "")
	return v
}

// call is a call of length times five seconds. In a short one the checks of ICE, which only the relay counts as bytes, are more
// than one in a hundred.
func (v videoUsers) call(t *testing.T, his participant, transport string, length int, discovery string) {
	t.Helper()
	v.hers.do(t, nil, "open", v.alice.browserServers(t, transport))
	his.do(t, nil, "open", v.bob.browserServers(t, transport))
	placed, incoming := signal(t, v.alice, v.bob, v.withBob, v.hers, his)
	both := []participant{v.hers, his}
	cores := []string{v.alice.core, v.bob.core}
	for _, u := range both {
		u.do(t, nil, "connected")
	}
	for _, u := range both {
		u.do(t, nil, "received", length*framesWanted, length*audioPacketsWanted)
	}
	for _, u := range both {
		u.do(t, nil, "mute")
	}
	for i, u := range both {
		u.do(t, nil, "settled")
		r := u.report(t)
		u.do(t, nil, "close")
		r.wantRelayed(t, u.kind, strings.ToLower(transport))
		r.wantNoLoss(t, u.kind)
		r.wantAgreement(t, v.host.server, u.kind)
		interop.Record(t, interop.Cell{
			Kind: interop.Client, Name: u.name(), Version: u.version, How: discovery + ", by " + cores[i],
			Transport: transport, Family: v.host.family, Figures: r.figures(), Control: refusedDeltaChat,
		})
	}
	before := v.bob.Core().Now()
	v.alice.do(t, func(ctx context.Context) error { return v.alice.EndCall(ctx, placed) })
	v.bob.wait(t, before, "the end of the call", about("CallEnded", incoming))
}

// browserServers returns what core hands to WebRTC, as it is, or with TCP put in the place of UDP, which core does not know of.
func (u *user) browserServers(t *testing.T, transport string) []iceServer {
	t.Helper()
	c := u.relay(t)
	url := "turn:" + net.JoinHostPort(c.host, c.port)
	if transport == "TCP" {
		url += "?transport=tcp"
	}
	return []iceServer{{URLs: url, Username: c.username, Credential: c.password}}
}

// signal has the caller's core carry the offer of her browser, and the callee's the answer of his. It returns the messages
// by which the two know the call.
func signal(t *testing.T, caller, callee *user, chat uint32, hers, his participant) (placed, incoming uint32) {
	t.Helper()
	var sdp string
	hers.do(t, &sdp, "offer", nil)
	callerNow, calleeNow := caller.Core().Now(), callee.Core().Now()
	caller.do(t, func(ctx context.Context) (err error) { placed, err = caller.PlaceCall(ctx, chat, sdp); return err })
	rings, _ := callee.wait(t, calleeNow, "the call", kind("IncomingCall"))
	his.do(t, &sdp, "answer", rings.PlaceCallInfo)
	callee.do(t, func(ctx context.Context) error { return callee.AcceptCall(ctx, rings.MsgID, sdp) })
	accepted, _ := caller.wait(t, callerNow, "the answer", about("OutgoingCallAccepted", placed))
	hers.do(t, nil, "accept", accepted.AcceptCallInfo)
	return placed, rings.MsgID
}
