package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// callLimit is how long a browser may take for one step of a call.
const callLimit = 60 * time.Second

// iceServer is one of a browser's iceServers.
type iceServer struct {
	URLs       string `json:"urls"`
	Username   string `json:"username"`
	Credential string `json:"credential"`
}

// report is what peer.report in peer.js returns: the figures of getStats that the tests look at.
type report struct {
	State           string   `json:"state"`
	States          []string `json:"states"`
	CandidateErrors []string `json:"candidateErrors"`
	LocalType       string   `json:"localType"`
	RemoteType      string   `json:"remoteType"`
	RelayProtocol   string   `json:"relayProtocol"`
	LocalAddress    string   `json:"localAddress"`
	Pair            struct {
		BytesSent         uint64  `json:"bytesSent"`
		BytesReceived     uint64  `json:"bytesReceived"`
		PacketsSent       uint64  `json:"packetsSent"`
		PacketsReceived   uint64  `json:"packetsReceived"`
		TotalRoundTrip    float64 `json:"totalRoundTripTime"` // in seconds, of ResponsesReceived checks
		RequestsSent      uint64  `json:"requestsSent"`
		RequestsReceived  uint64  `json:"requestsReceived"`
		ResponsesSent     uint64  `json:"responsesSent"`
		ResponsesReceived uint64  `json:"responsesReceived"`
	} `json:"pair"`
	Inbound map[string]struct {
		PacketsReceived int     `json:"packetsReceived"`
		PacketsLost     int     `json:"packetsLost"`
		BytesReceived   uint64  `json:"bytesReceived"`
		FramesDecoded   int     `json:"framesDecoded"`
		Jitter          float64 `json:"jitter"`
	} `json:"inbound"`
}

// participant is a browser in one of the network's namespaces.
type participant struct {
	*browser.Browser
	kind    browser.Kind
	version string
}

// name is the browser's in docs/interop.md.
func (u participant) name() string {
	return map[browser.Kind]string{browser.Chromium: "Chromium", browser.Firefox: "Firefox ESR"}[u.kind]
}

func startBrowser(t *testing.T, kind browser.Kind, ns namespace, ca string) participant {
	t.Helper()
	program, err := kind.Program()
	if err != nil {
		lacks(t, "%v: apt-get install %s", err, kind)
	}
	b, err := browser.Start(t.Context(), browser.Options{
		Kind: kind, Program: program, Dir: t.TempDir(), CA: ca, Certutil: peer(t, "certutil", "libnss3-tools"),
		Command: ns.command, Listener: ns.listen(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close()
		if t.Failed() {
			t.Logf("console of %s:\n%s", kind, b.Console())
		}
	})
	return participant{b, kind, programVersion(t, program, "--version")}
}

// do calls a method of peer.js, which has to succeed.
func (u participant) do(t *testing.T, value any, method string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	if err := u.Call(ctx, value, method, args...); err != nil {
		t.Fatalf("%s: %v\n%s", u.kind, err, u.state())
	}
}

// state is what the browser says about its connection, for a test that fails.
func (u participant) state() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var r json.RawMessage
	if err := u.Call(ctx, &r, "report"); err != nil {
		return err.Error()
	}
	return string(r)
}

func (u participant) report(t *testing.T) (r report) {
	t.Helper()
	u.do(t, &r, "report")
	return r
}

// configureNetwork writes a configuration for the relay's namespace.
func configureNetwork(t *testing.T, tlsBlock, turn string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf(`
hostname = %[1]q
log {
  level = "debug"
}
%[2]s
endpoint "turn" "turn" {
  listen = [
    "udp://%[3]s:3478", "tcp://%[3]s:3478", "tls://%[3]s:5349", "dtls://%[3]s:5349",
    "udp://[%[4]s]:3478", "tcp://[%[4]s]:3478", "tls://[%[4]s]:5349", "dtls://[%[4]s]:5349",
  ]
  secret        = %[5]q
  relay_ip      = [%[3]q, %[4]q]
  drain_timeout = "1s"
  %[6]s
}
endpoint "http" "http" {
  listen = %[7]q
}
endpoint "imap" "imap" {
  listen = ["tls://%[3]s:993"]
  embedded {
    users = {
      "alice@example.org" = "wonderland"
      "bob@example.org"   = "builder"
    }
  }
}
`, relayName, tlsBlock, relayIPv4, relayIPv6, secret, turn, metricsURL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startRelay starts mailturn in the relay's namespace.
func (n callNetwork) startRelay(t *testing.T, config string) *server {
	t.Helper()
	return startCommand(t, n.relay.command(binary, "run", "--state-dir", t.TempDir(), "--config", config))
}

// discover asks over IMAP for the relay, as a mail client in the namespace does.
func (ns namespace) discover(t *testing.T, certs certificates, account, password string) (turn, turns credential) {
	t.Helper()
	return ns.discoverAt(t, certs, 993, account, password)
}

// discoverAt asks on a port, with ALPN as Delta Chat does.
func (ns namespace) discoverAt(t *testing.T, certs certificates, port int, account, password string) (turn, turns credential) {
	t.Helper()
	conn := tls.Client(ns.dial(t, "tcp", fmt.Sprintf("%s:%d", relayIPv4, port)),
		&tls.Config{ServerName: relayName, RootCAs: certs.roots, NextProtos: []string{"imap"}})
	client := imapclient.New(conn, nil)
	defer client.Close()
	if err := client.Login(account, password).Wait(); err != nil {
		t.Fatal(err)
	}
	const turnEntry, turnsEntry = "/shared/vendor/deltachat/turn", "/shared/vendor/deltachat/turns"
	data, err := client.GetMetadata("", []string{turnEntry, turnsEntry}, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	value := func(entry string) credential {
		t.Helper()
		v := data.Entries[entry]
		if v == nil {
			t.Fatalf("no value of %s", entry)
		}
		return parseValue(t, string(*v))
	}
	return value(turnEntry), value(turnsEntry)
}

// way is one way from a client to the relay.
type way struct {
	transport, family string
	protocol          string // getStats' relayProtocol
	url               func(turn, turns credential) string
}

// ways are what the relay offers to a browser. The host of turn: is resolved before the browser sees it, as Delta Chat does.
// That of turns: is a name, without which Firefox makes no TLS connection.
var ways = []way{
	{"UDP", "IPv4", "udp", func(turn, _ credential) string { return "turn:" + relayIPv4 + ":" + turn.port }},
	{"TCP", "IPv4", "tcp", func(turn, _ credential) string { return "turn:" + relayIPv4 + ":" + turn.port + "?transport=tcp" }},
	{"TLS", "IPv4", "tls", func(_, turns credential) string { return "turns:" + turns.host + ":" + turns.port + "?transport=tcp" }},
	{"UDP", "IPv6", "udp", func(turn, _ credential) string { return "turn:[" + relayIPv6 + "]:" + turn.port }},
	{"TCP", "IPv6", "tcp", func(turn, _ credential) string { return "turn:[" + relayIPv6 + "]:" + turn.port + "?transport=tcp" }},
	{"TLS", "IPv6", "tls", func(_, turns credential) string { return "turns:" + relayName6 + ":" + turns.port + "?transport=tcp" }},
}

func (w way) iceServers(turn, turns credential) []iceServer {
	return []iceServer{{URLs: w.url(turn, turns), Username: turn.username, Credential: turn.password}}
}

// videoCall connects two browsers, which have to carry a data channel at the end.
func videoCall(t *testing.T, caller, callee participant, callerServers, calleeServers []iceServer) {
	t.Helper()
	caller.do(t, nil, "open", callerServers)
	callee.do(t, nil, "open", calleeServers)
	describe(t, caller, callee, nil)
	caller.do(t, nil, "connected")
	callee.do(t, nil, "connected")
}

// describe exchanges an offer and an answer.
func describe(t *testing.T, caller, callee participant, offerOptions map[string]any) {
	t.Helper()
	var sdp string
	caller.do(t, &sdp, "offer", offerOptions)
	callee.do(t, &sdp, "answer", sdp)
	caller.do(t, nil, "accept", sdp)
}

// TestBrowsers makes calls between headless browsers only through the relay, which each learned over IMAP: audio and video from
// fake devices, and a data channel. The counters of the browsers and of the relay have to agree, and the kernel has to relay what it can.
func TestBrowsers(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	s := n.startRelay(t, configureNetwork(t, certs.block(), ""))
	alice := startBrowser(t, browser.Chromium, n.alice, certs.ca)
	bob := startBrowser(t, browser.Chromium, n.bob, certs.ca)
	carol := startBrowser(t, browser.Firefox, n.bob, certs.ca)

	for _, callee := range []participant{bob, carol} {
		for _, w := range ways {
			t.Run(fmt.Sprintf("%s to %s over %s and %s", alice.kind, callee.kind, w.transport, w.family), func(t *testing.T) {
				aliceTURN, aliceTURNS := n.alice.discover(t, certs, "alice@example.org", "wonderland")
				bobTURN, bobTURNS := n.bob.discover(t, certs, "bob@example.org", "builder")
				allBefore, kernelBefore := n.relayedPackets(t)
				videoCall(t, alice, callee, w.iceServers(aliceTURN, aliceTURNS), w.iceServers(bobTURN, bobTURNS))

				for _, u := range []participant{alice, callee} {
					var times []float64
					u.do(t, &times, "ping", 10, 1000)
					t.Logf("%s: round trip times of the data channel in seconds: %.3f", u.kind, times)
				}
				before := map[participant]report{alice: alice.report(t), callee: callee.report(t)}
				for _, u := range []participant{alice, callee} {
					u.do(t, nil, "received", framesWanted, audioPacketsWanted)
				}
				for u, b := range before {
					after := u.report(t)
					if after.Pair.BytesSent <= b.Pair.BytesSent || after.Pair.BytesReceived <= b.Pair.BytesReceived {
						t.Errorf("%s: the bytes of the pair did not grow in both directions: %+v, then %+v", u.kind, b.Pair, after.Pair)
					}
				}
				alice.do(t, nil, "mute")
				callee.do(t, nil, "mute")
				for _, u := range []participant{alice, callee} {
					u.do(t, nil, "settled")
					r := u.report(t)
					u.do(t, nil, "close")
					r.wantRelayed(t, u.kind, w.protocol)
					r.wantNoLoss(t, u.kind)
					r.wantAgreement(t, s, u.kind)
					interop.Record(t, interop.Cell{
						Kind: interop.Client, Name: u.name(), Version: u.version, How: overMetadata,
						Transport: w.transport, Family: w.family, Figures: r.figures(), Control: refusedBrowsers,
					})
				}
				all, kernel := n.relayedPackets(t)
				all, kernel = all-allBefore, kernel-kernelBefore
				t.Logf("the relay: %d packets, of which the kernel relayed %d", all, kernel)
				if most := kernel > all/2; most != (inKernel(callee, w) && kernelRelays()) {
					t.Errorf("the kernel relayed %d of %d packets", kernel, all)
				}
			})
		}
	}
}

// inKernel reports whether the kernel can relay a call between Chromium and another browser. Firefox binds no channels, and over IPv6,
// both get relayed IPv4 addresses, because they do not ask for others.
func inKernel(callee participant, w way) bool {
	return callee.kind == browser.Chromium && w.transport == "UDP" && w.family == "IPv4"
}

// What each end of a call has to receive: five seconds' worth of video, as the fake camera makes it, and of audio.
const (
	framesWanted       = 100
	audioPacketsWanted = 250
)

// refusedBrowsers is what TestBrowsersRefused sees fail, in docs/interop.md.
const refusedBrowsers = "wrong secret; no relay; self-signed certificate; certificate of another name"

// TestBrowsersRefused checks that with each of several faults there is no relay, and so no connection.
func TestBrowsersRefused(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	s := n.startRelay(t, configureNetwork(t, certs.block(), ""))
	selfSigned := filepath.Join(t.TempDir(), "maddy.conf")
	text := fmt.Sprintf("hostname = %q\nendpoint \"turn\" \"turn\" {\n  listen = [\"tls://%s:5350\"]\n  secret = %q\n}\n", relayName, relayIPv4, secret)
	if err := os.WriteFile(selfSigned, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n.startRelay(t, selfSigned)

	chromium := startBrowser(t, browser.Chromium, n.alice, certs.ca)
	firefox := startBrowser(t, browser.Firefox, n.bob, certs.ca)
	good, goodTLS := minted(relayIPv4), minted(relayName)
	good.port, goodTLS.port = "3478", "5349"
	wrong := credential{host: good.host, username: good.username, password: "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}

	// gather returns the description that a browser makes with one relay, candidates and all.
	gather := func(t *testing.T, u participant, url string, c credential) (sdp string) {
		t.Helper()
		u.do(t, nil, "open", []iceServer{{url, c.username, c.password}})
		u.do(t, &sdp, "offer")
		return sdp
	}
	for _, tt := range []struct {
		name, url  string
		credential credential
		chromium   string // its error code; Firefox has none for TLS
	}{
		{"wrong secret", "turn:" + relayIPv4 + ":3478", wrong, "401"},
		{"wrong secret over TLS", "turns:" + relayName + ":5349?transport=tcp", wrong, "401"},
		{"no relay", "turn:" + relayIPv4 + ":3479?transport=tcp", good, "701"},
		{"self-signed certificate", "turns:" + relayName + ":5350?transport=tcp", good, "701"},
		{"certificate of another name", "turns:" + otherName + ":5349?transport=tcp", good, "701"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, u := range []participant{chromium, firefox} {
				if sdp := gather(t, u, tt.url, tt.credential); strings.Contains(sdp, "a=candidate") {
					t.Errorf("%s got a candidate:\n%s", u.kind, sdp)
				}
			}
			if said := chromium.report(t).CandidateErrors; !slices.ContainsFunc(said, func(e string) bool { return strings.Contains(e, ": "+tt.chromium+" ") }) {
				t.Errorf("chromium got the errors %q, want %s", said, tt.chromium)
			}
		})
	}
	if log := s.stderr.String(); strings.Contains(log, "allocation made") {
		t.Errorf("there was an allocation:\n%s", log)
	}

	t.Run("the wrong secret makes no connection", func(t *testing.T) {
		firefox.do(t, nil, "open", []iceServer{{"turn:" + relayIPv4 + ":3478", wrong.username, wrong.password}})
		chromium.do(t, nil, "open", []iceServer{{"turn:" + relayIPv4 + ":3478", good.username, good.password}})
		describe(t, firefox, chromium, nil)
		ctx, cancel := context.WithTimeout(t.Context(), callLimit)
		defer cancel()
		if err := firefox.Call(ctx, nil, "connected"); err == nil || !strings.Contains(err.Error(), "no connection") {
			t.Errorf("got %v, want a connection that fails", err)
		}
	})
	t.Run("the same with everything right", func(t *testing.T) {
		for _, u := range []participant{chromium, firefox} {
			for _, w := range ways {
				if sdp := gather(t, u, w.url(good, goodTLS), good); !strings.Contains(sdp, "typ relay") {
					t.Errorf("%s got no relayed candidate over %s and %s:\n%s", u.kind, w.transport, w.family, sdp)
				}
			}
		}
	})
}

// wantRelayed checks that the selected pair consists of two relayed candidates of the requested protocol.
func (r report) wantRelayed(t *testing.T, kind browser.Kind, protocol string) {
	t.Helper()
	if r.LocalType != "relay" || r.RemoteType != "relay" || r.RelayProtocol != protocol {
		t.Errorf("%s: the pair is %s/%s over %s, want relay/relay over %s", kind, r.LocalType, r.RemoteType, r.RelayProtocol, protocol)
	}
}

// wantNoLoss checks that everything sent has arrived, on links without loss. One packet in a hundred may still be lost in the
// buffers of a browser that gets no CPU time on a busy machine.
func (r report) wantNoLoss(t *testing.T, kind browser.Kind) {
	t.Helper()
	if received, lost := r.packets(); received == 0 || lost > received/100 {
		t.Errorf("%s: %d packets received and %d lost, want none lost", kind, received, lost)
	}
}

// packets are those of RTP.
func (r report) packets() (received, lost int) {
	for _, in := range r.Inbound {
		received, lost = received+in.PacketsReceived, lost+in.PacketsLost
	}
	return received, lost
}

func (r report) figures() string {
	received, lost := r.packets()
	return fmt.Sprintf("%d of %d packets lost, round trip %.1f ms", lost, received+lost, 1000*r.Pair.TotalRoundTrip/float64(r.Pair.ResponsesReceived))
}

// wantAgreement waits for the end of the allocation and compares its counters with the browser's.
//
// The relay counts the payload of UDP at the relayed address, whatever it is. The browser's candidate pair counts the same
// payload (SRTP, SRTCP and DTLS with their own headers, without TURN's), but not ICE's checks, which it only counts by
// number. So the packets of the relay are the browser's packets and checks together; Firefox counts no packets. Of the
// bytes, the checks are a small part. RTCP and checks between the report and the end add some as well.
func (r report) wantAgreement(t *testing.T, s *server, kind browser.Kind) {
	t.Helper()
	// An allocation that ended earlier may have had the same address.
	made := strings.LastIndex(s.stderr.String(), "allocation.relay="+r.LocalAddress+" allocation.lifetime=")
	ended := s.waitForNext(t, s.stderr, max(made, 0), "allocation.relay="+r.LocalAddress+" allocation.reason=")
	within := func(what string, relay, browser uint64) {
		t.Helper()
		difference := (float64(relay) - float64(browser)) / float64(browser)
		t.Logf("%s: %s: relay %d, browser %d, difference %.2f %%", kind, what, relay, browser, 100*difference)
		if math.Abs(difference) > 0.01 {
			t.Errorf("%s: %s: the relay counted %d and the browser %d, %.2f %% apart", kind, what, relay, browser, 100*difference)
		}
	}
	within("bytes to the peer", counter(t, ended, "to_peer_bytes"), r.Pair.BytesSent)
	within("bytes to the client", counter(t, ended, "to_client_bytes"), r.Pair.BytesReceived)
	if kind == browser.Firefox {
		return
	}
	within("packets to the peer", counter(t, ended, "to_peer_packets"), r.Pair.PacketsSent+r.Pair.RequestsSent+r.Pair.ResponsesSent)
	within("packets to the client", counter(t, ended, "to_client_packets"), r.Pair.PacketsReceived+r.Pair.RequestsReceived+r.Pair.ResponsesReceived)
}

// counter is a number in a line of the relay's log.
func counter(t *testing.T, line, name string) uint64 {
	t.Helper()
	m := regexp.MustCompile(` allocation\.` + name + `=(\d+)`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no %s in %q", name, line)
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
