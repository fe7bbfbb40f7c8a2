package page

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// site is a page with a clock that the test sets, and a browser that keeps its cookie.
type site struct {
	*Page
	access *Access
	clock  time.Time
	log    *bytes.Buffer
	wait   time.Duration // what the rate limit says
	client netip.Addr
	plain  bool // no TLS

	unhealthy   error
	allocations []event.Allocation
	warnings    []log.Line
	cluster     *Cluster
	cookie      *http.Cookie
}

func newSite(t *testing.T) *site {
	t.Helper()
	turn := issuer.Config{
		Server:  config.Value[string]{V: "turn.example.org"},
		UDPPort: 3478, TCPPort: 3478, TLSPort: config.Value[uint16]{V: 5349},
		Secrets: config.Value[[]credential.Secret]{V: []credential.Secret{credential.NewSecret([]byte("test-secret"))}},
		TTL:     config.Value[time.Duration]{V: 24 * time.Hour},
	}
	s := &site{access: testAccess(t, turn), clock: testNow, log: new(bytes.Buffer), client: netip.MustParseAddr("198.51.100.7")}
	s.Page = New(Source{
		Metrics: prometheus.NewRegistry(), Health: func() error { return s.unhealthy },
		Sessions: func(context.Context) ([]event.Allocation, error) { return s.allocations, nil },
		Warnings: func() []log.Line { return s.warnings }, Cluster: func() *Cluster { return s.cluster },
	}, slog.New(slog.NewTextHandler(s.log, nil)), func() time.Time { return s.clock })
	s.addresses.lookup = func(context.Context, string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	}
	return s
}

// send sends a request as a browser of the same origin does, and keeps the cookie.
func (s *site) send(t *testing.T, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "https://turn.example.org"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if s.cookie != nil {
		r.AddCookie(s.cookie)
	}
	w := httptest.NewRecorder()
	s.Serve(w, Visit{
		Request: r, Access: s.access, Client: s.client, Secure: !s.plain, Ready: true,
		Allow: func() time.Duration { return s.wait },
	})
	for _, c := range w.Result().Cookies() {
		s.cookie = c
		if c.MaxAge < 0 {
			s.cookie = nil
		}
	}
	return w
}

func (s *site) login(t *testing.T, password string) *httptest.ResponseRecorder {
	t.Helper()
	return s.send(t, "POST", "/login", url.Values{"username": {"operator"}, "password": {password}}.Encode())
}

func (s *site) wantStatus(t *testing.T, want int, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	w := s.send(t, method, path, "", header...)
	if w.Code != want {
		t.Errorf("%s %s: got status %d, want %d: %s", method, path, w.Code, want, w.Body)
	}
	return w
}

func TestLogin(t *testing.T) {
	s := newSite(t)
	if w := s.wantStatus(t, 303, "GET", "/"); w.Header().Get("Location") != "./login" {
		t.Errorf("without a session, / leads to %s", w.Header().Get("Location"))
	}
	s.wantStatus(t, 401, "POST", "/call-test/ways")
	s.wantStatus(t, 401, "POST", "/call-test/link")
	if w := s.login(t, "looking-glass"); w.Code != 403 || s.cookie != nil || !strings.Contains(w.Body.String(), `role="alert">The password is wrong.`) {
		t.Errorf("the wrong password: got status %d and cookie %v: %s", w.Code, s.cookie, w.Body)
	}
	if w := s.login(t, testPassword); w.Code != 303 || s.cookie == nil {
		t.Fatalf("the right password: got status %d and cookie %v", w.Code, s.cookie)
	}
	if c := s.cookie; !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Name != "__Host-mailturn" || c.Path != "/" || c.Domain != "" {
		t.Errorf("the cookie is %v", c)
	}
	s.wantStatus(t, 200, "POST", "/call-test/ways")
	s.wantStatus(t, 200, "POST", "/call-test/link")

	session := *s.cookie
	s.wantStatus(t, 303, "POST", "/logout")
	if s.cookie != nil {
		t.Error("the browser keeps the cookie")
	}
	s.cookie = &session
	s.wantStatus(t, 401, "POST", "/call-test/ways")
	if strings.Contains(s.log.String(), testPassword) || strings.Contains(s.log.String(), "looking-glass") {
		t.Errorf("a password is in the log:\n%s", s.log)
	}
}

func TestCookieWithoutTLS(t *testing.T) {
	s := newSite(t)
	s.plain = true
	s.login(t, testPassword)
	if s.cookie == nil || s.cookie.Secure || s.cookie.Name != "mailturn" {
		t.Errorf("the cookie is %v", s.cookie)
	}
	s.wantStatus(t, 200, "POST", "/call-test/link")
}

func TestSessionsExpire(t *testing.T) {
	s := newSite(t)
	s.login(t, testPassword)
	s.clock = s.clock.Add(sessionIdle - time.Second)
	s.wantStatus(t, 200, "POST", "/call-test/link")
	s.clock = s.clock.Add(sessionIdle)
	s.wantStatus(t, 401, "POST", "/call-test/link")

	s.login(t, testPassword)
	begun := s.clock
	for s.clock.Before(begun.Add(sessionLifetime)) {
		s.wantStatus(t, 200, "POST", "/call-test/link")
		s.clock = s.clock.Add(sessionIdle / 2)
	}
	s.wantStatus(t, 401, "POST", "/call-test/link")

	s.login(t, testPassword)
	s.access = testAccess(t, issuer.Config{}) // a reload with another hash
	s.wantStatus(t, 401, "POST", "/call-test/link")
}

// TestSessionsAreBounded begins more sessions than there may be: the one that is used stays.
func TestSessionsAreBounded(t *testing.T) {
	s := newSite(t)
	s.login(t, testPassword)
	mine := s.cookie
	for range maxSessions {
		s.clock = s.clock.Add(time.Second)
		s.wantStatus(t, 200, "POST", "/call-test/link")
		s.sessions.begin(Visit{Request: httptest.NewRequest("GET", "/", nil), Access: s.access}, s.clock)
	}
	if len(s.sessions.live) != maxSessions {
		t.Errorf("there are %d sessions, want %d", len(s.sessions.live), maxSessions)
	}
	s.cookie = mine
	s.wantStatus(t, 200, "POST", "/call-test/link")
}

// TestLoginRate guesses: after a few attempts an address has to wait, even with the right password, and others do not.
func TestLoginRate(t *testing.T) {
	s := newSite(t)
	for range loginBurst {
		if w := s.login(t, "x"); w.Code != 403 {
			t.Fatalf("got status %d, want 403", w.Code)
		}
	}
	w := s.login(t, testPassword)
	if w.Code != 429 || w.Header().Get("Retry-After") != "15" || !strings.Contains(w.Body.String(), "15 seconds") {
		t.Errorf("one more: got status %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	s.client = netip.MustParseAddr("198.51.100.8")
	if w := s.login(t, testPassword); w.Code != 303 {
		t.Errorf("from another address: got status %d, want 303", w.Code)
	}
	s.client = netip.MustParseAddr("198.51.100.7")
	s.clock = s.clock.Add(loginEvery)
	if w := s.login(t, testPassword); w.Code != 303 {
		t.Errorf("later: got status %d, want 303", w.Code)
	}
	if n := strings.Count(s.log.String(), "level=WARN"); n != loginBurst+1 {
		t.Errorf("%d warnings, want %d:\n%s", n, loginBurst+1, s.log)
	}
}

// TestLoginsOfOneNetwork guesses from many /64s of one IPv6 site: most guesses are refused unverified, and others can still log in.
func TestLoginsOfOneNetwork(t *testing.T) {
	s := newSite(t)
	var verified int
	guess := func(subnet int) {
		s.client = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 1, 2, byte(subnet), 15: 1})
		switch w := s.login(t, "x"); w.Code {
		case 403:
			verified++
		case 429:
			if after := w.Header().Get("Retry-After"); after != "5" {
				t.Errorf("Retry-After is %q, want 5", after)
			}
		default:
			t.Errorf("got status %d, want 403 or 429", w.Code)
		}
	}
	for subnet := range 256 {
		guess(subnet)
	}
	if verified != networkBurst {
		t.Errorf("%d guesses were verified, want %d", verified, networkBurst)
	}
	s.client = netip.MustParseAddr("2001:db8:2::1")
	if w := s.login(t, testPassword); w.Code != 303 {
		t.Errorf("from another network: got status %d, want 303", w.Code)
	}
	s.cookie = nil
	s.clock = s.clock.Add(networkEvery)
	guess(0)
	guess(1)
	if verified != networkBurst+1 {
		t.Errorf("%d guesses were verified after a while, want one more", verified)
	}
}

// TestOtherSites sends what another site could make a browser send.
func TestOtherSites(t *testing.T) {
	s := newSite(t)
	s.login(t, testPassword)
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "", "Origin", "https://evil.example"}, {"Sec-Fetch-Site", "", "Origin", "null"},
	} {
		for _, path := range []string{"/call-test/link", "/call-test/ways", "/logout", "/login"} {
			s.wantStatus(t, 403, "POST", path, header...)
		}
	}
	s.wantStatus(t, 405, "GET", "/call-test/link", "Sec-Fetch-Site", "cross-site")
	s.wantStatus(t, 405, "GET", "/logout", "Sec-Fetch-Site", "cross-site")
	s.wantStatus(t, 200, "POST", "/call-test/link")
}

func TestWays(t *testing.T) {
	s := newSite(t)
	token, _ := s.access.newLink(testNow)
	bearer := []string{"Authorization", "Bearer " + token}
	w := s.wantStatus(t, 200, "POST", "/call-test/ways", bearer...)
	var answer struct {
		Ways     []way
		Operator bool
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Operator {
		t.Error("a link makes an operator")
	}
	want := []string{
		"udp IPv4 turn:192.0.2.1:3478?transport=udp", "udp IPv6 turn:[2001:db8::1]:3478?transport=udp",
		"tcp IPv4 turn:192.0.2.1:3478?transport=tcp", "tcp IPv6 turn:[2001:db8::1]:3478?transport=tcp",
		"tls  turns:turn.example.org:5349?transport=tcp",
	}
	for i, got := range answer.Ways {
		if text := got.Transport + " " + got.Family + " " + got.URL; i >= len(want) || text != want[i] {
			t.Errorf("way %d is %s", i, text)
		}
		issued := credential.Issuer{Secret: credential.NewSecret([]byte("test-secret")), TTL: 10 * time.Minute}.IssueFor("call-test", testNow)
		if got.Username != issued.Username || got.Credential != issued.Password {
			t.Errorf("way %d has the credential %s, want one for ten minutes: %s", i, got.Username, issued.Username)
		}
	}
	if len(answer.Ways) != len(want) {
		t.Errorf("%d ways, want %d", len(answer.Ways), len(want))
	}

	s.wantStatus(t, 401, "POST", "/call-test/link", bearer...) // a link makes no other links
	s.wantStatus(t, 401, "GET", "/status", bearer...)
	s.wantStatus(t, 303, "GET", "/", bearer...)
	s.wantStatus(t, 403, "POST", "/call-test/ways", "Authorization", "Bearer "+token[1:])
	s.wait = time.Minute
	if w := s.wantStatus(t, 429, "POST", "/call-test/ways", bearer...); w.Header().Get("Retry-After") != "60" {
		t.Errorf("got Retry-After %q, want 60", w.Header().Get("Retry-After"))
	}
	s.wait = 0
	s.clock = s.clock.Add(linkLifetime)
	s.wantStatus(t, 403, "POST", "/call-test/ways", bearer...)
}

func TestAddresses(t *testing.T) {
	public, loopback := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.1.1")
	near, far := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("198.51.100.7")
	for _, tt := range []struct {
		name   string
		found  []netip.Addr
		client netip.Addr
		want   []netip.Addr
	}{
		{"the first of several", []netip.Addr{public, netip.MustParseAddr("192.0.2.2")}, far, []netip.Addr{public}},
		{"the name of the machine in its hosts file", []netip.Addr{loopback}, far, nil},
		{"the same, on the machine", []netip.Addr{loopback}, near, []netip.Addr{loopback}},
		{"none", nil, far, nil},
	} {
		a := addresses{lookup: func(context.Context, string) []netip.Addr { return tt.found }}
		got := a.of(t.Context(), "turn.example.org", tt.client, testNow)
		if len(got) != len(tt.want) || len(got) > 0 && got[0] != tt.want[0] {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestAddressesAreForgotten asks for many hosts, of which no more are kept than a minute has.
func TestAddressesAreForgotten(t *testing.T) {
	a := addresses{lookup: func(context.Context, string) []netip.Addr { return nil }}
	for i := range 100 {
		a.of(t.Context(), fmt.Sprintf("turn%d.example.org", i), netip.Addr{}, testNow.Add(time.Duration(i)*addressesTTL))
	}
	if len(a.known) != 1 {
		t.Errorf("%d hosts are kept, want 1", len(a.known))
	}
}

// TestAddressesAreKept checks that a visitor who goes away while DNS is asked leaves nothing for the next one.
func TestAddressesAreKept(t *testing.T) {
	asked := 0
	a := addresses{lookup: func(ctx context.Context, _ string) []netip.Addr {
		if asked++; ctx.Err() != nil {
			return nil
		}
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	}}
	gone, leave := context.WithCancel(t.Context())
	leave()
	a.of(gone, "turn.example.org", netip.Addr{}, testNow)
	for i, at := range []time.Duration{0, 59 * time.Second, time.Minute} {
		if got := a.of(t.Context(), "turn.example.org", netip.Addr{}, testNow.Add(at)); len(got) != 1 {
			t.Errorf("question %d: got %v", i, got)
		}
	}
	if asked != 3 { // for the one who left, the next one, and a minute later
		t.Errorf("DNS was asked %d times, want 3", asked)
	}
}

// TestHeaders wants the policy on every answer, whatever its status.
func TestHeaders(t *testing.T) {
	s := newSite(t)
	for _, request := range []string{"GET /", "GET /login", "GET /call-test", "GET /page/call-test.js", "GET /page/none", "POST /call-test/ways", "GET /status", "GET /cluster", "GET /cluster/state", "PUT /"} {
		method, path, _ := strings.Cut(request, " ")
		header := s.send(t, method, path, "").Header()
		policy := header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: no %s in the policy %q", request, want, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: the headers are %v", request, header)
		}
	}
}

// TestAssets wants HTML without scripts or styles of its own, no reference to another place, and scripts that make no HTML of text.
func TestAssets(t *testing.T) {
	s := newSite(t)
	inline := regexp.MustCompile(`(?i)<script(?:[^>]*)>[^<]|<style|\son\w+=|\sstyle=|javascript:`)
	elsewhere := regexp.MustCompile(`(?i)(src|href|action)="(https?:)?//`)
	makesHTML := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setTimeout\("`)
	if err := fs.WalkDir(assets, "assets", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(assets, path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, "assets/")
		if strings.HasSuffix(name, ".html") {
			if found := inline.Find(text); found != nil {
				t.Errorf("%s has %q", name, found)
			}
			if found := elsewhere.Find(text); found != nil {
				t.Errorf("%s has %q", name, found)
			}
			s.wantStatus(t, 404, "GET", "/page/"+name)
			return nil
		}
		if found := makesHTML.Find(text); strings.HasSuffix(name, ".js") && found != nil {
			t.Errorf("%s has %q", name, found)
		}
		if w := s.wantStatus(t, 200, "GET", "/page/"+name); !bytes.Equal(w.Body.Bytes(), text) {
			t.Errorf("%s is served with other content", name)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/page/", "/page/../page.go", "/page/%2e%2e/page.go", "/page/none.js"} {
		s.wantStatus(t, 404, "GET", path)
	}
}
