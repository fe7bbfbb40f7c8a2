package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/livekit/livekit-server/pkg/config"
)

// TestExport has LiveKit read what is exported for it, where every name has to be one that it knows.
func TestExport(t *testing.T) {
	path := write(t, "maddy.conf", `
hostname = "turn.example.org"
endpoint "turn" "turn" {
  secret = "a \"secret\": with all that YAML might mind #"
}
`)
	exported, err := exec.Command(filepath.Join(dir, "mailturn"), "export", "livekit", "--state-dir", t.TempDir(), "--config", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	conf, err := config.NewConfig(strings.Join([]string{"keys:", "  " + apiKey + ": " + apiSecret, string(exported)}, "\n"), true, nil, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, exported)
	}
	const secret, day = `a "secret": with all that YAML might mind #`, 24 * 60 * 60
	want := []config.TURNServer{
		{Host: "turn.example.org", Port: 3478, Protocol: "udp", Secret: secret, TTL: day},
		{Host: "turn.example.org", Port: 3478, Protocol: "tcp", Secret: secret, TTL: day},
	}
	if !slices.Equal(conf.RTC.TURNServers, want) {
		t.Errorf("got %+v, want %+v", conf.RTC.TURNServers, want)
	}
}
