package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/framework/config"
)

// manyEndpoints has one endpoint of each kind whose connections need descriptors.
const manyEndpoints = `
hostname = "mail.example.org"
endpoint "turn" "relay" {
  listen      = ["udp://127.0.0.1:3478", "tcp://127.0.0.1:3478", "tls://127.0.0.1:3478", "tcp://127.0.0.1:3479"]
  relay_ip    = "127.0.0.1"
  relay_ports = "50000-50499"
  total_quota = 0
}
endpoint "imap" "mail" {
  listen = ["tls://127.0.0.1:993"]
  upstream {
    address = "tcp://127.0.0.1:143"
  }
}
endpoint "dict" "dict" {
  path = "/run/mailturn/dict"
}
endpoint "http" "http" {
  listen = ["http://127.0.0.1:8080"]
}
`

func decodeText(t *testing.T, text string) *setup {
	t.Helper()
	file, diags := config.Parse("maddy.conf", []byte(text))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	s, diags := decode(file, t.TempDir())
	if diags.HasErrors() {
		t.Fatal(diags.Errs())
	}
	return s
}

func TestLimitsFitTheDescriptors(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	const wanted = descriptorReserve + 2*500 + 2*10000 + 2*10000 + 10000 + 1000

	s := decodeText(t, manyEndpoints)
	s.fitDescriptors(wanted, logger)
	if relay := s.relays[0]; relay.TotalQuota != 0 || relay.MaxStreams != 10000 || s.imaps[0].MaxConnections != 10000 || out.Len() > 0 {
		t.Errorf("there is enough for all, and yet: %+v, %q", relay.TotalQuota, out.String())
	}

	s.fitDescriptors(wanted-1, logger)
	relay := &s.relays[0]
	if relay.TotalQuota != 0 || relay.MaxStreams != 9999 || s.imaps[0].MaxConnections != 9999 || strings.Contains(out.String(), "total_quota") {
		t.Errorf("one descriptor is missing: total_quota is %d and max_connections %d and %d, want calls to keep theirs\n%s",
			relay.TotalQuota, relay.MaxStreams, s.imaps[0].MaxConnections, out.String())
	}

	out.Reset()
	s = decodeText(t, manyEndpoints)
	relay = &s.relays[0]
	s.fitDescriptors(1024, logger)
	open := relay.TotalQuota + 2*relay.MaxStreams + 2*s.imaps[0].MaxConnections + s.dicts[0].MaxConnections + s.http[0].MaxConnections
	if open > 1024-descriptorReserve || open < 1024-descriptorReserve-20 {
		t.Errorf("%d descriptors may be open, want nearly all of %d", open, 1024-descriptorReserve)
	}
	if relay.TotalQuota != (1024-descriptorReserve)/2 {
		t.Errorf("total_quota is %d, want half of the descriptors", relay.TotalQuota)
	}
	if relay.MaxStreams == 0 || s.imaps[0].MaxConnections == 0 {
		t.Errorf("a limit of 0 means something else: %d, %d", relay.MaxStreams, s.imaps[0].MaxConnections)
	}
	if got := out.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "limit=1024 wanted=52064") ||
		!strings.Contains(got, `endpoint=mail name=max_connections from=10000 to=94`) {
		t.Errorf("logged:\n%s", got)
	}

	out.Reset()
	s.fitDescriptors(1024, logger)
	if out.Len() > 0 {
		t.Errorf("limits that fit are lowered again:\n%s", out.String())
	}

	// Calls get what connections leave, if that is more than half.
	s = decodeText(t, manyEndpoints)
	s.relays[0].MaxStreams, s.imaps[0].MaxConnections, s.dicts[0].MaxConnections, s.http[0].MaxConnections = 10, 10, 10, 10
	s.fitDescriptors(descriptorReserve+60+900, logger)
	if got := s.relays[0].TotalQuota; got != 900 || s.imaps[0].MaxConnections != 10 {
		t.Errorf("total_quota is %d, want 900, and the others as they are", got)
	}
	s = decodeText(t, manyEndpoints)
	relay = &s.relays[0]

	// A very low limit is enforced too: there is always a limit.
	s.fitDescriptors(3, logger)
	if relay.MaxStreams != 1 || s.imaps[0].MaxConnections != 1 || relay.TotalQuota != 1 {
		t.Errorf("with 3 descriptors: %d, %d, %d", relay.MaxStreams, s.imaps[0].MaxConnections, relay.TotalQuota)
	}
}
