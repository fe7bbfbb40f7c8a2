package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/mailturn/mailturn/framework/resolver"
)

// keeperFor returns a keeper for whose name DNS returns the addresses, or the error.
func keeperFor(s Settings, addresses []netip.Addr, err error) *keeper {
	s.Directory = LetsEncrypt
	lookup := func(context.Context, string) ([]netip.Addr, error) { return addresses, err }
	return &keeper{run: &run{settings: s, lookup: lookup}, name: "mail.example.org", logger: slog.New(slog.DiscardHandler), now: time.Now}
}

// TestWhereNameLeads checks that a failed challenge is explained with the name's addresses in DNS.
func TestWhereNameLeads(t *testing.T) {
	ours, other := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.9")
	settings := Settings{Challenge: HTTP01, Addresses: []netip.Addr{ours}}
	for _, tt := range []struct {
		name      string
		challenge Challenge
		addresses []netip.Addr
		err       error
		want      string
	}{
		{"elsewhere", HTTP01, []netip.Addr{other}, nil, "DNS has 203.0.113.9 for mail.example.org, which is not an address of this machine: correct the record"},
		{"one of two elsewhere", HTTP01, []netip.Addr{ours, other}, nil, "DNS has 203.0.113.9 for"},
		{"here", HTTP01, []netip.Addr{ours}, nil, "so a firewall blocks port 80, or another program answers there"},
		{"here, over TLS", TLSALPN01, []netip.Addr{ours}, nil, "blocks port 443"},
		{"nowhere", HTTP01, nil, fmt.Errorf("look up: %w", resolver.ErrNXDOMAIN), "mail.example.org is not in DNS: add A and AAAA records"},
		{"DNS does not answer", HTTP01, nil, errors.New("timeout"), ""},
	} {
		settings.Challenge = tt.challenge
		problem := acme.Problem{Type: acme.ProblemTypeConnection, Detail: "connection refused"}
		got := keeperFor(settings, tt.addresses, tt.err).explain(t.Context(), fmt.Errorf("solving challenge: %w", problem))
		if got.kind != "connection" || !got.costly || !strings.Contains(got.text, "(connection): connection refused") || !strings.HasSuffix(got.text, tt.want) && !strings.Contains(got.text, tt.want) {
			t.Errorf("%s: got %+v, want %q", tt.name, got, tt.want)
		}
	}
}

// TestWait checks that attempts stay within the authority's limits, and are repeated soon if it does not count them.
func TestWait(t *testing.T) {
	for _, tt := range []struct {
		refusal  refusal
		failures int
		want     time.Duration
	}{
		{refusal{kind: kindUnreachable}, 1, minLocalWait},
		{refusal{kind: kindUnreachable}, 3, 4 * minLocalWait},
		{refusal{kind: kindPort}, 1000, maxLocalWait},
		{refusal{kind: "unauthorized", costly: true}, 1, minAuthorityWait},
		{refusal{kind: "unauthorized", costly: true}, 1000, maxAuthorityWait},
		{refusal{kind: kindRateLimit, costly: true}, 1, maxAuthorityWait},
		{refusal{kind: kindClock, costly: true}, 1, maxAuthorityWait},
		{refusal{kind: kindClock}, 1, minLocalWait},
	} {
		if got := tt.refusal.wait(tt.failures); got > tt.want || got < tt.want*9/10 {
			t.Errorf("after %d failures (%s): %v, want %v or a tenth less", tt.failures, tt.refusal.kind, got, tt.want)
		}
	}
}

// TestAnswerTLS checks that ordinary handshakes are not affected, and that unknown challenges are refused.
func TestAnswerTLS(t *testing.T) {
	for _, protocols := range [][]string{nil, {"imap"}, {"imap", "acme-tls/1"}} {
		if config, err := AnswerTLS(&tls.ClientHelloInfo{ServerName: "mail.example.org", SupportedProtos: protocols}); config != nil || err != nil {
			t.Errorf("%q: got %v, %v", protocols, config, err)
		}
	}
	if _, err := AnswerTLS(&tls.ClientHelloInfo{ServerName: "mail.example.org", SupportedProtos: []string{"acme-tls/1"}}); err == nil {
		t.Error("an unknown challenge is answered")
	}
}
