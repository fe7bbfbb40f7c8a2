package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/turn/v4"
)

const apiKey = "an API key of the end-to-end tests"

// startHTTP runs a server with an HTTP endpoint on port, over TLS.
func startHTTP(t *testing.T, p ports, port int, drainTimeout string) (s *server, client *http.Client, url string) {
	t.Helper()
	stateDir := t.TempDir()
	path := configure(t, p, allowLoopback, "")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(bytes.Replace(text, []byte(`drain_timeout = "1s"`), []byte("drain_timeout = "+drainTimeout), 1), `
endpoint "http" "http" {
  listen      = "https://127.0.0.1:%d"
  api_keys    = %q
  turn_server = "127.0.0.1"
}
`, port, apiKey)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, stateDir, "--config", path)
	return s, clientOf(t, stateDir), "https://127.0.0.1:" + strconv.Itoa(port)
}

// clientOf is a client that trusts the self-signed certificate of a server with its state in stateDir. It follows no redirect.
func clientOf(t *testing.T, stateDir string) *http.Client {
	t.Helper()
	certificate, err := os.ReadFile(filepath.Join(stateDir, "selfsigned.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport, Timeout: startLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// plainClient is a client that shares no connection with other tests.
func plainClient(t *testing.T) *http.Client {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: startLimit}
}

// ask sends a GET and returns the status and the body.
func ask(t *testing.T, client *http.Client, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+apiKey)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// restCredential asks over the TURN REST API.
func restCredential(t *testing.T, client *http.Client, url, user string) credential {
	t.Helper()
	status, body := ask(t, client, url+"/turn?service=turn&username="+user)
	var answer struct {
		Username, Password string
		TTL                int
		URIs               []string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || len(answer.URIs) == 0 {
		t.Fatalf("got status %d, %s (%v)", status, body, err)
	}
	host, port, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(answer.URIs[0], "turn:"), "?transport=udp"), ":")
	return credential{host: host, port: port, username: answer.Username, password: answer.Password}
}

// TestCredentialOverHTTP relays media with a credential from the TURN REST API, and checks the metrics.
func TestCredentialOverHTTP(t *testing.T) {
	t.Parallel()
	p, more := freePorts(t), freePorts(t)
	s, client, url := startHTTP(t, p, more.turn, `"1s"`)
	got := restCredential(t, client, url, "alice")
	if want := strconv.Itoa(p.turn); got.host != "127.0.0.1" || got.port != want || !strings.HasSuffix(got.username, ":alice") {
		t.Errorf("got %s:%s for %s, want 127.0.0.1:%s for ...:alice", got.host, got.port, got.username, want)
	}
	port, _ := echoPeer(t)
	uclient(t, got, p.turn, "-e", "127.0.0.1", "-r", strconv.Itoa(port), "-X", "-n", "10", "-m", "2", "-l", "100").wantAll(t, 20)

	s.waitFor(t, s.stderr, `msg="allocation ended"`)
	_, metrics := ask(t, client, url+"/metrics")
	for _, want := range []string{
		`mailturn_turn_relayed_bytes_total{direction="to_peer",endpoint="turn"} 2000`,
		`mailturn_turn_relayed_bytes_total{direction="to_client",endpoint="turn"} 2000`,
		`mailturn_http_requests_total{code="200",endpoint="http",path="/turn"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s in the metrics:\n%s", want, metrics)
		}
	}
}

// TestReadinessWhileDraining asks the server to stop during a call, and checks that load balancers see it immediately, that the
// call continues, and that the server ends with it.
func TestReadinessWhileDraining(t *testing.T) {
	t.Parallel()
	p, more := freePorts(t), freePorts(t)
	s, client, url := startHTTP(t, p, more.turn, `"10m"`)
	if status, body := ask(t, client, url+"/readyz"); status != http.StatusOK {
		t.Errorf("got status %d before, want 200: %s", status, body)
	}
	got := restCredential(t, client, url, "alice")
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: net.JoinHostPort(got.host, got.port), Username: got.username, Password: got.password, Realm: "example.org", Conn: conn,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer call.Close()
	if err := call.Listen(); err != nil {
		t.Fatal(err)
	}
	relayed, err := call.Allocate()
	if err != nil {
		t.Fatal(err)
	}

	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.waitFor(t, s.stderr, "msg=draining")
	for deadline := time.Now().Add(startLimit); ; {
		status, body := ask(t, client, url+"/readyz")
		if status == http.StatusServiceUnavailable {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got status %d while draining, want 503: %s", status, body)
		}
	}
	if status, body := ask(t, client, url+"/turn"); status != http.StatusServiceUnavailable {
		t.Errorf("credentials while draining: got status %d, want 503: %s", status, body)
	}
	if status, body := ask(t, client, url+"/healthz"); status != http.StatusOK {
		t.Errorf("life while draining: got status %d, want 200: %s", status, body)
	}
	if err := relayed.Close(); err != nil { // ends the allocation
		t.Errorf("the call did not go on: %v", err)
	}
	select {
	case err := <-s.exited:
		if err != nil {
			t.Errorf("the server ended with %v", err)
		}
	case <-time.After(stopLimit):
		t.Fatal("the server still runs after the last call")
	}
}
