package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

const (
	turnSecret = "a secret that LiveKit and mailturn share"
	apiKey     = "test"
	apiSecret  = "a secret of LiveKit's API, of 32 bytes and more"

	startLimit = time.Minute
	callLimit  = 2 * time.Minute
	// frames of video that have to arrive.
	frames = 30
)

// dir holds the two servers that TestMain builds.
var dir string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	var err error
	if dir, err = os.MkdirTemp("", "mailturn-livekit"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := certify(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("SSL_CERT_FILE", filepath.Join(dir, "ca.pem")) // which the participants in this process trust
	for name, source := range map[string]string{"livekit": ".", "mailturn": "../../.."} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), ".")
		build.Dir = source
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	return m.Run()
}

// peer returns the path of a program of somebody else.
func peer(t *testing.T, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("MAILTURN_E2E") != "" {
		t.Fatalf("%s is not installed: apt-get install %s", program, debianPackage)
	}
	t.Skipf("%s is not installed: apt-get install %s", program, debianPackage)
	return ""
}

// output is what a process writes. It is safe for concurrent use.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs a program until the test ends, with the processes that it starts.
func start(t *testing.T, program string, args ...string) *output {
	t.Helper()
	log := new(output)
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", filepath.Base(program), log)
		}
	})
	return log
}

// waitUntilServing waits until an HTTP server says 200.
func waitUntilServing(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(startLimit); ; time.Sleep(50 * time.Millisecond) {
		response, err := http.Get(url)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not serve: %v, %v", url, response, err)
		}
	}
}

// freePorts asks the system for ports of loopback that are free for TCP and UDP. Nothing reserves them.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for len(ports) < n {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		port := tcp.Addr().(*net.TCPAddr).Port
		if udp, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			defer udp.Close()
			ports = append(ports, port)
		}
	}
	return ports
}

// write makes a file of the test.
func write(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// selected is what the page says of the way that one connection takes.
type selected struct {
	Type     string `json:"type"`     // of the local candidate
	Protocol string `json:"protocol"` // towards the relay
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
}

// report is what page.js says at the end.
type report struct {
	Error         string     `json:"error"`
	FramesDecoded int        `json:"framesDecoded"`
	Connections   []selected `json:"connections"` // of both participants
}

// participantsName is the username of an allocation that LiveKit mints for a participant.
var participantsName = regexp.MustCompile(`allocation\.username=\d+:PA_\w+`)

// servers are a LiveKit with mailturn for its relay.
type servers struct {
	mailturn *output
	httpPort int    // of mailturn
	url      string // of LiveKit
}

// A way is how LiveKit tells participants to reach the relay. host is as in a URL.
type way struct{ protocol, family, host string }

var ways = []way{
	{"udp", "IPv4", "127.0.0.1"}, {"tcp", "IPv4", "127.0.0.1"}, {"tls", "IPv4", "127.0.0.1"},
	{"udp", "IPv6", "[::1]"}, {"tcp", "IPv6", "[::1]"}, {"tls", "IPv6", "[::1]"},
}

// otherName leads to an address that is not in the certificate.
var otherName = way{"tls", "IPv4", "127.0.0.2"}

func (w way) String() string { return w.protocol + " " + w.family }

// controls adds what has to fail over TLS alone.
func (w way) controls(others string) string {
	if w.protocol == "tls" {
		return others + "; certificate of another name"
	}
	return others
}

// startServers runs both until the test ends. LiveKit mints credentials with secret, for the relay over this way.
func startServers(t *testing.T, over way, secret string) (s servers) {
	t.Helper()
	ports := freePorts(t, 5)
	turnPort, livekitPort, mediaPort, turnsPort := ports[0], ports[2], ports[3], ports[4]
	port := turnPort
	if over.protocol == "tls" {
		port = turnsPort
	}
	s.httpPort = ports[1]
	s.mailturn = start(t, filepath.Join(dir, "mailturn"), "run", "--state-dir", t.TempDir(), "--config", write(t, "maddy.conf", fmt.Sprintf(`
log {
  level = "debug"
}
tls {
  cert = %[1]q
  key  = %[2]q
}
endpoint "turn" "turn" {
  listen   = ["udp://%[3]s:%[4]d", "tcp://%[3]s:%[4]d", "tls://%[3]s:%[5]d"]
  realm    = "example.org"
  secret   = %[6]q
  relay_ip = "127.0.0.1"
  peers {
    allow = ["127.0.0.0/8"]
  }
}
endpoint "http" "http" {
  listen = "http://127.0.0.1:%[7]d"
}
`, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), over.host, turnPort, turnsPort, turnSecret, s.httpPort)))
	waitUntilServing(t, fmt.Sprintf("http://127.0.0.1:%d/readyz", s.httpPort))
	start(t, filepath.Join(dir, "livekit"), write(t, "livekit.yaml", fmt.Sprintf(`
port: %d
bind_addresses: [127.0.0.1]
keys:
  %s: %s
rtc:
  udp_port: %d
  tcp_port: 0
  use_external_ip: false
  node_ip: 127.0.0.1
  enable_loopback_candidate: true
  ips:
    includes: [127.0.0.0/8] # or node_ip may stand for another address of this host
  turn_servers:
    - host: %q
      port: %d
      protocol: %s
      secret: %s
`, livekitPort, apiKey, apiSecret, mediaPort, over.host, port, over.protocol, secret)))
	waitUntilServing(t, fmt.Sprintf("http://127.0.0.1:%d/", livekitPort))
	s.url = fmt.Sprintf("ws://127.0.0.1:%d", livekitPort)
	return s
}

// browser returns the path of Chromium. It requires LiveKit's client for its page.
func browser(t *testing.T) (chromium string) {
	t.Helper()
	chromium = peer(t, "chromium", "chromium")
	if direct := "/usr/lib/chromium/chromium"; isFile(direct) { // Debian's is a script, which needs a desktop's settings
		chromium = direct
	}
	client := "page/node_modules/livekit-client/dist/livekit-client.umd.js"
	if !isFile(client) {
		if os.Getenv("MAILTURN_E2E") != "" {
			t.Fatalf("%s is not there: npm ci --prefix page", client)
		}
		t.Skipf("%s is not there: npm ci --prefix page", client)
	}
	return chromium
}

// TestRelayedRoom lets two participants of a LiveKit room see each other through the relay alone, under the credentials that
// LiveKit mints for rtc.turn_servers with mailturn's secret.
func TestRelayedRoom(t *testing.T) {
	chromium := browser(t)
	for _, over := range ways {
		t.Run(over.String(), func(t *testing.T) {
			s := startServers(t, over, turnSecret)
			got := meet(t, chromium, s.url)
			if got.Error != "" {
				t.Fatalf("the page says: %s", got.Error)
			}
			if len(got.Connections) < 2 {
				t.Errorf("%d connections, want one of each participant", len(got.Connections))
			}
			var sent, received uint64
			for _, c := range got.Connections {
				if c.Type != "relay" || c.Protocol != over.protocol {
					t.Errorf("a connection goes over a candidate of type %q and protocol %q, want a relay over %s", c.Type, c.Protocol, over)
				}
				sent, received = sent+c.Sent, received+c.Received
			}
			if got.FramesDecoded < frames {
				t.Errorf("%d frames arrived, want %d", got.FramesDecoded, frames)
			}
			toPeer, toClient := relayed(t, s.httpPort, "to_peer"), relayed(t, s.httpPort, "to_client")
			t.Logf("%d frames; sent %d and received %d bytes; mailturn relayed %d and %d", got.FramesDecoded, sent, received, toPeer, toClient)
			const tenths = 9 // a busy machine loses packets between the browser and the relay
			if toPeer < sent*tenths/10 || toClient < received*tenths/10 || received == 0 {
				t.Errorf("mailturn relayed %d and %d bytes, and the browser sent %d and received %d", toPeer, toClient, sent, received)
			}
			if !participantsName.MatchString(s.mailturn.String()) {
				t.Error("no allocation of a participant's name in the log")
			}
			interop.Record(t, interop.Cell{
				Kind: interop.Client, Name: "LiveKit's client in Chromium", Version: clientVersion(t), Transport: strings.ToUpper(over.protocol), Family: over.family,
				How:     fmt.Sprintf("shared secret, by LiveKit (%s)", moduleVersion(t, "github.com/livekit/livekit-server")),
				Figures: fmt.Sprintf("%d frames", got.FramesDecoded), Control: over.controls("another secret"),
			})
		})
	}
}

// TestRefusedRoom is the control of TestRelayedRoom: LiveKit mints with a secret that is not mailturn's, or names the relay by an
// address that is not in its certificate.
func TestRefusedRoom(t *testing.T) {
	for name, tt := range map[string]struct {
		over   way
		secret string
	}{"another secret": {ways[0], "another secret"}, "certificate of another name": {otherName, turnSecret}} {
		t.Run(name, func(t *testing.T) {
			s := startServers(t, tt.over, tt.secret)
			if got := meet(t, browser(t), s.url); !strings.Contains(got.Error, "could not establish") {
				t.Errorf("got %+v, want no connection", got)
			}
			if strings.Contains(s.mailturn.String(), "allocation made") {
				t.Error("there was an allocation")
			}
		})
	}
}

// clientVersion is that of the client that npm has installed for the page.
func clientVersion(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("page/node_modules/livekit-client/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var installed struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(text, &installed); err != nil {
		t.Fatal(err)
	}
	return installed.Version
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// token lets a participant join the room.
func token(t *testing.T, identity string) string {
	t.Helper()
	text, err := auth.NewAccessToken(apiKey, apiSecret).SetIdentity(identity).SetValidFor(time.Hour).
		SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: "room"}).ToJWT()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// meet opens the page in a browser, lets both participants join, and returns its report, which may be an error.
func meet(t *testing.T, chromium, url string) report {
	t.Helper()
	reports := make(chan report, 1)
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir("page")))
	mux.HandleFunc("GET /settings", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"url": url, "tokens": []string{token(t, "alice"), token(t, "bob")}, "frames": frames})
	})
	mux.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		var got report
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			got.Error = err.Error()
		}
		reports <- got
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	defer server.Close()

	home := t.TempDir()
	database := filepath.Join(home, ".pki/nssdb")
	if err := os.MkdirAll(database, 0o700); err != nil {
		t.Fatal(err)
	}
	certutil := peer(t, "certutil", "libnss3-tools")
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-n", "test CA", "-t", "C,,", "-i", filepath.Join(dir, "ca.pem")}} {
		if out, err := exec.Command(certutil, append(args, "-d", "sql:"+database)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %v: %v\n%s", args, err, out)
		}
	}
	start(t, peer(t, "env", "coreutils"), "HOME="+home, chromium, "--headless", "--disable-gpu", "--no-first-run", "--user-data-dir="+filepath.Join(home, "profile"),
		"--no-sandbox", "--disable-dev-shm-usage", // for root, and in containers
		"--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required",
		"--allow-loopback-in-peer-connection", // which is where both servers are
		"--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
		"--enable-logging=stderr", "http://"+listener.Addr().String()+"/")
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	select {
	case got := <-reports:
		return got
	case <-ctx.Done():
		t.Fatalf("no report from the page in %v", callLimit)
		return report{}
	}
}

// relayed returns mailturn's count of bytes in a direction.
func relayed(t *testing.T, port int, direction string) uint64 {
	t.Helper()
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	prefix := fmt.Sprintf(`mailturn_turn_relayed_bytes_total{direction=%q,endpoint="turn"} `, direction)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return uint64(n)
		}
	}
	t.Fatalf("no %sin the metrics:\n%s", prefix, text)
	return 0
}
