package http

import (
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

func TestRateLimit(t *testing.T) {
	const perMinute = 6
	limit := newRateLimit(perMinute)
	now := testNow
	alice, bob := netip.MustParsePrefix("198.51.100.7/32"), netip.MustParsePrefix("2001:db8::/64")
	for i := range perMinute {
		if wait := limit.take(alice, now); wait != 0 {
			t.Fatalf("request %d of %d at once has to wait %v", i+1, perMinute, wait)
		}
	}
	if wait := limit.take(alice, now); wait != 10*time.Second {
		t.Errorf("one more has to wait %v, want 10s", wait)
	}
	if wait := limit.take(bob, now); wait != 0 {
		t.Errorf("another source has to wait %v", wait)
	}
	if wait := limit.take(alice, now.Add(9*time.Second)); wait != time.Second {
		t.Errorf("9s later it is %v, want 1s: refused requests cost nothing", wait)
	}
	if wait := limit.take(alice, now.Add(10*time.Second)); wait != 0 {
		t.Errorf("10s later it is %v, want 0", wait)
	}
	if wait := limit.take(alice, now.Add(10*time.Second)); wait != 10*time.Second {
		t.Errorf("and then it is %v, want 10s", wait)
	}
}

func TestRateOfRequests(t *testing.T) {
	c := testConfig()
	c.Rate = 2
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	var now atomic.Int64
	now.Store(testNow.Unix())
	_, address := start(t, c, func(e *Endpoint) {
		e.handler.now = func() time.Time { return time.Unix(now.Load(), 0) }
	})
	ask := func(client, key string) *http.Response {
		t.Helper()
		response, _ := get(t, address, "GET", "/turn?key="+key, "", "X-Forwarded-For", client)
		return response
	}
	for i, want := range []int{401, 200, 429, 429} { // a guess costs as much as a right key
		key := testKey
		if i == 0 {
			key = "wrong"
		}
		response := ask("198.51.100.7", key)
		if response.StatusCode != want {
			t.Errorf("request %d: got status %d, want %d", i+1, response.StatusCode, want)
		}
		if want == 429 && response.Header.Get("Retry-After") != strconv.Itoa(30) {
			t.Errorf("got Retry-After %q, want 30", response.Header.Get("Retry-After"))
		}
	}
	if got := ask("198.51.100.8", testKey).StatusCode; got != 200 {
		t.Errorf("another client through the proxy: got status %d, want 200", got)
	}
	for i, want := range []int{200, 200, 429} { // a /64 is one source
		if got := ask("2001:db8::"+strconv.Itoa(i+1), testKey).StatusCode; got != want {
			t.Errorf("IPv6 request %d: got status %d, want %d", i+1, got, want)
		}
	}
	now.Add(30)
	if got := ask("198.51.100.7", testKey).StatusCode; got != 200 {
		t.Errorf("after Retry-After: got status %d, want 200", got)
	}
}

func TestClient(t *testing.T) {
	s := &settings{proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")}}
	for _, tt := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"198.51.100.7:1", nil, "198.51.100.7"},
		{"198.51.100.7:1", []string{"192.0.2.1"}, "198.51.100.7"}, // a client that lies
		{"[::ffff:198.51.100.7]:1", nil, "198.51.100.7"},
		{"[2001:db8::1%eth0]:1", nil, "2001:db8::1"},
		{"10.0.0.1:1", []string{"192.0.2.1"}, "192.0.2.1"},
		{"10.0.0.1:1", []string{"203.0.113.5, 192.0.2.1"}, "192.0.2.1"},
		{"10.0.0.1:1", []string{"203.0.113.5", "192.0.2.1"}, "192.0.2.1"},
		{"10.0.0.1:1", []string{"192.0.2.1, 10.0.0.2,10.0.0.3"}, "192.0.2.1"},
		{"10.0.0.1:1", []string{"192.0.2.1, fd00::2"}, "192.0.2.1"},
		{"10.0.0.1:1", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"10.0.0.1:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"10.0.0.1:1", nil, "invalid IP"},
		{"10.0.0.1:1", []string{""}, "invalid IP"},
		{"10.0.0.1:1", []string{"192.0.2.1, unknown"}, "invalid IP"},
		{"10.0.0.1:1", []string{"192.0.2.1:80"}, "invalid IP"},
		{"10.0.0.1:1", []string{"10.0.0.2"}, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: tt.remote, Header: http.Header{"X-Forwarded-For": tt.forwarded}}
		if got := s.client(r).String(); got != tt.want {
			t.Errorf("from %s with %q: got %s, want %s", tt.remote, tt.forwarded, got, tt.want)
		}
	}
}

func FuzzClient(f *testing.F) {
	for _, seed := range []string{"192.0.2.1", "203.0.113.5, 10.0.0.2", "::ffff:10.0.0.2", "fe80::1%x", ",", "10.0.0.2,10.0.0.3"} {
		f.Add(seed)
	}
	s := &settings{proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}
	f.Fuzz(func(t *testing.T, forwarded string) {
		header := http.Header{"X-Forwarded-For": {forwarded}}
		if got := s.client(&http.Request{RemoteAddr: "198.51.100.7:1", Header: header}); got != netip.MustParseAddr("198.51.100.7") {
			t.Errorf("%q: a client without a proxy counts as %v", forwarded, got)
		}
		if got := s.client(&http.Request{RemoteAddr: "10.0.0.1:1", Header: header}); got.IsValid() && (s.proxies.Contains(got) || got.Zone() != "" || got.Is4In6()) {
			t.Errorf("%q: the client is %v", forwarded, got)
		}
	})
}
