package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// hosts is a resolver that knows these names only.
type hosts map[string][]netip.Addr

func (h hosts) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	addrs, ok := h[host]
	if !ok || network != "ip" {
		return nil, fmt.Errorf("no such host %q", host)
	}
	return addrs, nil
}

var someHosts = hosts{
	"example.com":     {netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")},
	"mapped":          {netip.MustParseAddr("::ffff:203.0.113.8")},
	"empty":           {},
	"turn.delta.chat": {netip.MustParseAddr("203.0.113.10")},
}

// TestResolveByDefault passes no resolver.
func TestResolveByDefault(t *testing.T) {
	servers, failed := Resolve(t.Context(), nil, []Server{{Hostname: "192.0.2.1", Port: 3478}})
	if len(servers) != 1 || len(failed) != 0 || !slices.Equal(servers[0].URLs, []string{"turn:192.0.2.1:3478"}) {
		t.Errorf("got %v, %v", servers, failed)
	}
}

func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        string
		failures    int
	}{
		{"two families", "example.com:3478:1758650868:8Dq/+=", `[{"urls":["turn:203.0.113.7:3478","turn:[2001:db8::7]:3478"],"username":"1758650868","credential":"8Dq/+="}]`, 0},
		{"mapped", "mapped:1:5:pw", `[{"urls":["turn:203.0.113.8:1"],"username":"5","credential":"pw"}]`, 0},
		{"zeros are kept", "mapped:1:0005:pw", `[{"urls":["turn:203.0.113.8:1"],"username":"0005","credential":"pw"}]`, 0},
		{"bracketed IPv4 resolves to nothing, without a fallback", "[1.2.3.4]:3478:5:pw", `[]`, 1},
		{"no address", "empty:3478:5:pw", `[]`, 1},
		{"characters that HTML would escape", "mapped:1:5:<&>\u2028", `[{"urls":["turn:203.0.113.8:1"],"username":"5","credential":"<&>` + "\u2028" + `"}]`, 0},
		{"escapes", "mapped:1:5:\"\\\b\f\n\r\t\v\x00\x7f", `[{"urls":["turn:203.0.113.8:1"],"username":"5","credential":"\"\\\b\f\n\r\t\u000b\u0000` + "\x7f" + `"}]`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			value, err := ParseValue(tt.value)
			if err != nil {
				t.Fatal(err)
			}
			servers, failed := Resolve(t.Context(), someHosts, []Server{value.Server()})
			if got := string(AppendJSON(nil, servers)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if len(failed) != tt.failures {
				t.Errorf("got failures %v, want %d", failed, tt.failures)
			}
		})
	}
}

// TestFallbackJSON checks what core writes for a server without METADATA.
func TestFallbackJSON(t *testing.T) {
	servers, failed := Resolve(t.Context(), someHosts, FallbackServers())
	const want = `[{"urls":["turn:203.0.113.10:3478"],"username":"public","credential":"o4tR7yG4rG2slhXqRUf9zgmHz"}]`
	if got := string(AppendJSON(nil, servers)); got != want || failed != nil {
		t.Errorf("got  %s, %v\nwant %s", got, failed, want)
	}
}

func TestResolveError(t *testing.T) {
	cause := errors.New("no answer")
	_, failed := Resolve(t.Context(), refuser{cause}, FallbackServers())
	if len(failed) != 1 || !errors.Is(failed[0], cause) {
		t.Errorf("got %v", failed)
	}
}

type refuser struct{ err error }

func (r refuser) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, r.err
}

// FuzzAppendJSON compares the encoder with the standard library's decoder.
func FuzzAppendJSON(f *testing.F) {
	f.Add("turn:203.0.113.7:3478", "1758650868", "8Dq/+=")
	f.Add("\u2028", "\x00\x1f", "\"\\\x7f")
	f.Fuzz(func(t *testing.T, url, username, credential string) {
		if !utf8.ValidString(url) || !utf8.ValidString(username) || !utf8.ValidString(credential) {
			return // values are UTF-8 before they get here
		}
		type iceServer struct {
			URLs       []string `json:"urls"`
			Username   string   `json:"username"`
			Credential string   `json:"credential"`
		}
		in := []ICEServer{{URLs: []string{url, url}, Username: username, Credential: credential}, {URLs: []string{url}}}
		var got []iceServer
		text := AppendJSON(nil, in)
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		want := []iceServer{{[]string{url, url}, username, credential}, {[]string{url}, "", ""}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
