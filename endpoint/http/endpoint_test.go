package http

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/framework/metrics"
	"github.com/mailturn/mailturn/framework/module/moduletest"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

const (
	testKey    = "0123456789abcdef0123456789abcdef"
	testSecret = "test-secret"
	// patience is long enough for an overloaded machine.
	patience = time.Minute
)

// testNow is 24 hours before the expiry in restPlain.
var testNow = time.Unix(1758650868-86400, 0)

func testConfig() Config {
	return Config{
		Name:         "http",
		Listen:       []listen.Addr{{Scheme: "http", Host: "127.0.0.1"}},
		ListenRanges: make([]hcl.Range, 1),
		APIKeys:      []credential.Secret{credential.NewSecret([]byte("another key of some length")), credential.NewSecret([]byte(testKey))},
		TURN: issuer.Config{
			Server:  config.Value[string]{V: "turn.example.org"},
			Port:    config.Value[uint16]{V: 3478},
			UDPPort: 3478, TCPPort: 3478,
			TLSPort: config.Value[uint16]{V: 5349},
			Secrets: config.Value[[]credential.Secret]{V: []credential.Secret{credential.NewSecret([]byte(testSecret))}},
			TTL:     config.Value[time.Duration]{V: 24 * time.Hour},
		},
		Settings: Settings{MetricsFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, MaxConnections: 100},
	}
}

// start runs an endpoint with c and returns it with the address of its first listener.
func start(t *testing.T, c Config, prepare ...func(*Endpoint)) (e *Endpoint, address string) {
	t.Helper()
	registry := metrics.NewRegistry()
	e = moduletest.Start(t, func(c Config, logger *slog.Logger) (*Endpoint, error) {
		e, err := New(c, Process{Ready: func() bool { return true }, Health: func() error { return nil }, Metrics: registry}, logger)
		if err != nil {
			return nil, err
		}
		registry.MustRegister(e.Collector())
		e.handler.now = func() time.Time { return testNow }
		for _, f := range prepare {
			f(e)
		}
		return e, nil
	}, c)
	return e, e.Addrs()[0].String()
}

// get sends a request and returns the answer with its body.
func get(t *testing.T, address, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

const form = "application/x-www-form-urlencoded"

// The answers. The password of restPlain was computed with
//
//	printf 1758650868 | openssl dgst -sha1 -hmac test-secret -binary | base64
const (
	restPlain = `{"username":"1758650868","password":"nkfvRIGUcx0N/jq/StNLPajpLZE=","ttl":86400,"uris":["turn:turn.example.org:3478?transport=udp","turn:turn.example.org:3478?transport=tcp","turns:turn.example.org:5349?transport=tcp"]}`
	restAlice = `{"username":"1758650868:alice","password":"PASSWORD","ttl":86400,"uris":["turn:turn.example.org:3478?transport=udp","turn:turn.example.org:3478?transport=tcp","turns:turn.example.org:5349?transport=tcp"]}`
	iceAlice  = `{"iceServers":[{"urls":["turn:turn.example.org:3478?transport=udp","turn:turn.example.org:3478?transport=tcp","turns:turn.example.org:5349?transport=tcp"],"username":"1758650868:alice","credential":"PASSWORD"}],"ttl":86400}`
)

func TestRequests(t *testing.T) {
	_, address := start(t, testConfig())
	key := []string{"Authorization", "Bearer " + testKey}
	long := strings.Repeat("x", maxUsername+1)
	janus := func(path string) string {
		query := "service=turn&api=" + testKey + "&key=" + testKey + "&username=alice"
		if path == "" {
			return query
		}
		return path + "?" + query
	}
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string // the body, or a part of the detail of a problem
	}{
		{"the draft's request", "GET", "/turn?service=turn&username=alice&key=" + testKey, "", nil, 200, restAlice},
		{"the other key", "GET", "/turn?username=alice&key=another+key+of+some+length", "", nil, 200, restAlice},
		{"without user", "GET", "/turn?key=" + testKey, "", nil, 200, restPlain},
		{"key in the header", "GET", "/turn?username=alice", "", key, 200, restAlice},
		{"scheme in another case", "GET", "/turn?username=alice", "", []string{"Authorization", "bearer " + testKey}, 200, restAlice},
		{"form", "POST", "/turn", "service=turn&username=alice&key=" + testKey, []string{"Content-Type", form}, 200, restAlice},
		{"form with charset", "POST", "/turn", "username=alice&key=" + testKey, []string{"Content-Type", form + "; charset=utf-8"}, 200, restAlice},
		{"POST without body", "POST", "/turn?username=alice", "", key, 200, restAlice},
		{"user in the URL, key in the form", "POST", "/turn?username=alice", "key=" + testKey, []string{"Content-Type", form}, 200, restAlice},
		{"Janus: each parameter in the URL and in the form", "POST", janus("/turn"), janus(""), []string{"Content-Type", form}, 200, restAlice},
		{"Janus by GET", "GET", janus("/turn"), "", nil, 200, restAlice},
		{"Janus, ICE", "POST", janus("/ice"), janus(""), []string{"Content-Type", form}, 200, iceAlice},
		{"ICE", "GET", "/ice?username=alice", "", key, 200, iceAlice},
		{"ICE, the header only", "HEAD", "/ice?username=alice", "", key, 200, ``},
		{"alive", "GET", "/healthz", "", nil, 200, `{"status":"ok"}`},
		{"ready", "GET", "/readyz", "", nil, 200, `{"status":"ok"}`},
		{"ready, the header only", "HEAD", "/readyz", "", nil, 200, ``},

		{"no key", "GET", "/turn", "", nil, 401, "API key"},
		{"empty key", "GET", "/turn?key=", "", nil, 401, "API key"},
		{"wrong key", "GET", "/ice?key=" + testKey[1:] + "0", "", nil, 401, "API key"},
		{"beginning of the key", "GET", "/ice?key=" + testKey[:31], "", nil, 401, "API key"},
		{"wrong key in the header, right one in the URL", "GET", "/turn?key=" + testKey, "", []string{"Authorization", "Bearer x"}, 401, "API key"},
		{"another scheme", "GET", "/turn", "", []string{"Authorization", "Basic " + testKey}, 401, "API key"},
		{"two keys", "GET", "/turn?key=" + testKey + "&key=another+key+of+some+length", "", nil, 400, "parameter key is given more than once, with different values"},
		{"two users, one in the form", "POST", "/turn?username=alice", "username=bob&key=" + testKey, []string{"Content-Type", form}, 400, "parameter username is given more than once"},
		{"two users, the second the same in the form", "POST", "/turn?username=alice&username=bob", "username=alice&key=" + testKey, []string{"Content-Type", form}, 400, "parameter username is given more than once"},
		{"two services", "POST", "/turn?service=turn", "service=&key=" + testKey, []string{"Content-Type", form}, 400, "parameter service is given more than once"},
		{"another service", "GET", "/turn?service=stun&key=" + testKey, "", nil, 400, "parameter service: want turn"},
		{"long user", "GET", "/turn?username=" + long, "", key, 400, "at most 256 bytes are accepted, got 257"},
		{"user with line feed", "GET", "/turn?username=a%0Ab", "", key, 400, "control characters"},
		{"user with NUL", "GET", "/turn?username=a%00", "", key, 400, "control characters"},
		{"user that is not UTF-8", "GET", "/turn?username=%ff", "", key, 400, "UTF-8"},
		{"broken escape", "GET", "/turn?username=%zz", "", key, 400, "malformed"},
		{"semicolon", "GET", "/turn?username=a;key=b", "", key, 400, "malformed"},
		{"JSON", "POST", "/turn", "{}", append(key, "Content-Type", "application/json"), 415, form},
		{"form without type", "POST", "/turn", "username=a", key, 415, form},
		{"another method", "PUT", "/turn", "", key, 405, "want GET, HEAD, POST, OPTIONS"},
		{"deleting", "DELETE", "/healthz", "", nil, 405, "want GET, HEAD"},
		{"metrics by POST", "POST", "/metrics", "", nil, 405, "want GET, HEAD"},
		{"body of a GET", "GET", "/healthz", "x", nil, 400, "POST alone may have a body"},
		{"long form", "POST", "/turn", strings.Repeat("x", maxBody+1), append(key, "Content-Type", form), 413, "few hundred bytes"},
		{"another path", "GET", "/", "", key, 404, "nothing"},
		{"path below", "GET", "/turn/", "", key, 404, "nothing"},
		{"path above", "GET", "/x/../turn", "", key, 404, "nothing"},
		{"path in another case", "GET", "/TURN", "", key, 404, "nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			response, body := get(t, address, tt.method, tt.path, tt.body, tt.header...)
			body = strings.TrimSuffix(body, "\n")
			password := credential.Password(credential.NewSecret([]byte(testSecret)), "1758650868:alice")
			want := strings.ReplaceAll(tt.want, "PASSWORD", password)
			if response.StatusCode != tt.status {
				t.Errorf("got status %d, want %d: %s", response.StatusCode, tt.status, body)
			}
			contentType := "application/json"
			if tt.status >= 400 {
				contentType = "application/problem+json"
			}
			if got := response.Header.Get("Content-Type"); got != contentType {
				t.Errorf("got Content-Type %q, want %q", got, contentType)
			}
			if tt.status == 200 && body != want || !strings.Contains(body, want) {
				t.Errorf("got %s\nwant %s", body, want)
			}
			if got := response.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("got Cache-Control %q: a cache would give one client's credential to another", got)
			}
			if tt.status == 401 && response.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Error("401 without WWW-Authenticate (RFC 9110 section 15.5.2)")
			}
			if tt.status == 405 && response.Header.Get("Allow") == "" {
				t.Error("405 without Allow (RFC 9110 section 15.5.6)")
			}
		})
	}
}

// TestOpen checks that only an open path issues credentials without a key.
func TestOpen(t *testing.T) {
	c := testConfig()
	c.APIKeys, c.Open = nil, []string{icePath}
	_, address := start(t, c)
	for path, want := range map[string]int{"/ice": 200, "/turn": 401, "/turn?key=": 401} {
		if response, body := get(t, address, "GET", path, ""); response.StatusCode != want {
			t.Errorf("%s: got status %d, want %d: %s", path, response.StatusCode, want, body)
		}
	}
}

// TestEachRequestHasItsOwn checks that requests without a user name, as web pages send them, do not share one quota.
func TestEachRequestHasItsOwn(t *testing.T) {
	c := testConfig()
	c.TURN.Accounts = new(credential.Accounts)
	_, address := start(t, c)
	seen := make(map[string]bool)
	for range 20 {
		_, body := get(t, address, "GET", "/turn?key="+testKey, "")
		var issued restResponse
		if err := json.Unmarshal([]byte(body), &issued); err != nil || seen[issued.Username] {
			t.Fatalf("%s was given out before, or %v", body, err)
		}
		seen[issued.Username] = true
	}
}

// TestWithoutCredentials checks that an endpoint without credentials serves the other paths.
func TestWithoutCredentials(t *testing.T) {
	c := testConfig()
	c.APIKeys, c.TURN = nil, issuer.Config{}
	_, address := start(t, c)
	for path, want := range map[string]int{"/ice": 404, "/turn": 404, "/healthz": 200, "/metrics": 200} {
		if response, body := get(t, address, "GET", path, ""); response.StatusCode != want {
			t.Errorf("%s: got status %d, want %d: %s", path, response.StatusCode, want, body)
		}
	}
}

// TestNotReady checks that a server that is draining or shutting down is alive, but not ready, and issues no credentials.
func TestNotReady(t *testing.T) {
	_, address := start(t, testConfig(), func(e *Endpoint) { e.handler.ready = func() bool { return false } })
	for path, want := range map[string]int{"/readyz": 503, "/turn?key=" + testKey: 503, "/healthz": 200} {
		response, body := get(t, address, "GET", path, "")
		if response.StatusCode != want || want == 503 && !strings.Contains(body, "the server is draining, starting or stopping") {
			t.Errorf("%s: got status %d, want %d: %s", path, response.StatusCode, want, body)
		}
	}
}

// TestUnhealthy checks that a server with an endpoint that cannot serve is not ready, but issues credentials, because the relay may
// work. The answer does not tell the reason.
func TestUnhealthy(t *testing.T) {
	_, address := start(t, testConfig(), func(e *Endpoint) { e.handler.health = func() error { return errors.New("a secret reason") } })
	for path, want := range map[string]int{"/readyz": 503, "/turn?key=" + testKey: 200, "/healthz": 200} {
		if response, body := get(t, address, "GET", path, ""); response.StatusCode != want || strings.Contains(body, "reason") {
			t.Errorf("%s: got status %d, want %d: %s", path, response.StatusCode, want, body)
		}
	}
}

func TestMetrics(t *testing.T) {
	c := testConfig()
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	_, address := start(t, c)
	get(t, address, "GET", "/secret/path", "")
	response, body := get(t, address, "GET", "/metrics", "")
	for _, want := range []string{`mailturn_http_requests_total{code="404",path="other"} 1`, "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics (status %d):\n%s", want, response.StatusCode, body)
		}
	}

	// The proxy itself is on loopback, but nobody may read the metrics through it.
	through := func(header ...string) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range header {
			request.Header.Add("X-Forwarded-For", h)
		}
		proxy := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}
		defer proxy.CloseIdleConnections()
		response, err := proxy.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	for _, header := range [][]string{nil, {"198.51.100.7"}, {"127.0.0.1, 198.51.100.7"}, {"127.0.0.1", "198.51.100.7"}, {"127.0.0.1, x"}, {""}} {
		if got := through(header...); got != 403 {
			t.Errorf("through a proxy with X-Forwarded-For %q: got status %d, want 403", header, got)
		}
	}
	if got := through("127.0.0.1"); got != 200 {
		t.Errorf("for a client that may, through a proxy: got status %d, want 200", got)
	}
}

// TestMetricsThroughAStrangeProxy checks that nobody can read the metrics through an untrusted proxy on this machine, whose clients
// all seem to be on loopback.
func TestMetricsThroughAStrangeProxy(t *testing.T) {
	_, address := start(t, testConfig())
	for _, header := range [][]string{
		{"X-Forwarded-For", "198.51.100.7"}, {"X-Forwarded-For", "127.0.0.1"}, {"X-Forwarded-For", ""},
		{"Forwarded", "for=198.51.100.7"}, {"Via", "1.1 vegur"}, {"X-Real-IP", "198.51.100.7"}, {"X-Forwarded-Proto", "https"},
		{"X-Forwarded-Host", "turn.example.org"}, {"X-Forwarded-Server", "turn.example.org"},
	} {
		response, body := get(t, address, "GET", "/metrics", "", header...)
		if response.StatusCode != 403 || !strings.Contains(body, "trusted_proxies") {
			t.Errorf("with %s: %s: got status %d, want 403 that names trusted_proxies: %s", header[0], header[1], response.StatusCode, body)
		}
		if response, _ := get(t, address, "GET", "/turn?key="+testKey, "", header...); response.StatusCode != 200 {
			t.Errorf("with %s: got status %d for credentials, want 200", header[0], response.StatusCode)
		}
	}
	for version, want := range map[string]int{"1.0": 403, "1.1": 200} { // nginx's proxy_http_version, and everybody else's
		statuses, all := exchange(t, address, "GET /metrics HTTP/"+version+"\r\nHost: "+address+"\r\n\r\n")
		if !slices.Equal(statuses, []int{want}) {
			t.Errorf("HTTP/%s: got %v, want %d: %s", version, statuses, want, all)
		}
	}

	c := testConfig()
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	_, address = start(t, c)
	if response, body := get(t, address, "GET", "/metrics", "", "X-Forwarded-For", "127.0.0.3", "Via", "1.1 vegur"); response.StatusCode != 200 {
		t.Errorf("through a trusted proxy: got status %d, want 200: %s", response.StatusCode, body)
	}
}

func TestCORS(t *testing.T) {
	c := testConfig()
	c.AllowOrigins = []string{"https://app.example.org"}
	_, one := start(t, c)
	c.AllowOrigins = []string{"*"}
	_, all := start(t, c)
	c.AllowOrigins = nil
	_, none := start(t, c)
	for _, tt := range []struct{ name, address, origin, want string }{
		{"allowed", one, "https://app.example.org", "https://app.example.org"},
		{"another", one, "https://evil.example.org", ""},
		{"another scheme", one, "http://app.example.org", ""},
		{"another port", one, "https://app.example.org:8443", ""},
		{"longer", one, "https://app.example.org.evil.example", ""},
		{"null", one, "null", ""},
		{"none sent", one, "", ""},
		{"all", all, "https://evil.example.org", "*"},
		{"nobody", none, "https://app.example.org", ""},
	} {
		for _, method := range []string{"GET", "OPTIONS"} {
			t.Run(tt.name+" "+method, func(t *testing.T) {
				response, _ := get(t, tt.address, method, "/ice?key="+testKey, "", "Origin", tt.origin)
				if got := response.Header.Get("Access-Control-Allow-Origin"); got != tt.want {
					t.Errorf("got Access-Control-Allow-Origin %q, want %q", got, tt.want)
				}
				if response.Header.Get("Access-Control-Allow-Credentials") != "" {
					t.Error("cookies are allowed")
				}
				if got := response.Header.Get("Vary"); tt.address != none && got != "Origin" {
					t.Errorf("got Vary %q, want Origin", got)
				}
				if method == "OPTIONS" && (response.StatusCode != 204 || (response.Header.Get("Access-Control-Allow-Headers") != "") != (tt.want != "")) {
					t.Errorf("preflight got status %d, %v", response.StatusCode, response.Header)
				}
			})
		}
	}
}

func TestReload(t *testing.T) {
	c := testConfig()
	e, address := start(t, c)
	c.APIKeys = []credential.Secret{credential.NewSecret([]byte("a new key, and no other one"))}
	moduletest.Reload(t, e, c)
	for key, want := range map[string]int{testKey: 401, "a new key, and no other one": 200} {
		if response, _ := get(t, address, "GET", "/turn", "", "Authorization", "Bearer "+key); response.StatusCode != want {
			t.Errorf("key %q after the reload: got status %d, want %d", key, response.StatusCode, want)
		}
	}
	c.Listen = []listen.Addr{{Scheme: "http", Host: "127.0.0.2"}}
	if names := config.NeedsRestart(Schema{}, e.config, c); !slices.Equal(names, []string{"listen"}) {
		t.Errorf("another address: got %q, want listen", names)
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	pair, roots := testCertificate(t, dir)
	c := testConfig()
	c.Listen[0].Scheme, c.TLS = "https", pair
	_, address := start(t, c)
	for _, protocols := range []func(*http.Protocols){
		func(p *http.Protocols) { p.SetHTTP1(true) },
		func(p *http.Protocols) { p.SetHTTP2(true) },
	} {
		transport := &http.Transport{TLSClientConfig: roots, Protocols: new(http.Protocols)}
		protocols(transport.Protocols)
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Post("https://"+address+"/turn", form, io.MultiReader(strings.NewReader("key="+testKey)))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		// A body whose length is not given is chunked in HTTP/1.1, and fine in HTTP/2.
		want := map[int]int{1: 411, 2: 200}[response.ProtoMajor]
		if response.StatusCode != want {
			t.Errorf("%s: got status %d, want %d: %s", response.Proto, response.StatusCode, want, body)
		}
		if response.ProtoMajor == 2 {
			response, err := (&http.Client{Transport: transport}).Post("https://"+address+"/turn", form, io.MultiReader(strings.NewReader("x="+strings.Repeat("x", 1<<20))))
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != 413 {
				t.Errorf("a giant body of unknown length: got status %d, want 413", response.StatusCode)
			}
		}
	}
}

func TestStartFails(t *testing.T) {
	_, taken := start(t, testConfig())
	c := testConfig()
	other := netip.MustParseAddrPort(taken)
	c.Listen = append(c.Listen, listen.Addr{Scheme: "http", Host: "127.0.0.1", Port: other.Port()})
	c.ListenRanges = append(c.ListenRanges, hcl.Range{Filename: filepath.Join("etc", "maddy.conf")})
	e, err := New(c, Process{Metrics: prometheus.NewRegistry()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = e.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "another program uses this port") || !strings.Contains(err.Error(), "maddy.conf") {
		t.Errorf("got error %v, want one that names the place and says that the port is taken", err)
	}
	if len(e.Addrs()) != 0 {
		t.Errorf("still bound: %v", e.Addrs())
	}
}
