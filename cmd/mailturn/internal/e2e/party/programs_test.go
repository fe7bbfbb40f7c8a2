package party_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party/partytest"
)

// program is a party in another language.
type program struct {
	name     string   // of the implementation
	command  []string // words
	restarts bool     // ICE
	// check is a command that succeeds where the implementation is installed, which install says how to do.
	check   []string
	install string
}

const (
	datachannel = "../testdata/datachannel"
	npm         = "npm ci in cmd/mailturn/internal/e2e/testdata/datachannel"
	python      = "/usr/bin/python3" // Debian's, which sees Debian's modules
)

var programs = []program{
	{
		name: "@roamhq/wrtc", command: []string{"node", datachannel + "/party.mjs", "@roamhq/wrtc"}, restarts: true,
		check: []string{"node", "--print", "require('@roamhq/wrtc')"}, install: npm,
	},
	{
		// The ICE restart of 0.25.2 allocates a relayed address, and makes no checks from there once DTLS is connected.
		name: "werift", command: []string{"node", datachannel + "/party.mjs", "werift"},
		check: []string{"node", "--print", "require('werift')"}, install: npm,
	},
	{
		name: "aiortc", command: []string{python, "../testdata/aiortc_party.py"},
		check: []string{python, "-c", "import aiortc"}, install: "apt-get install python3-aiortc",
	},
}

func TestPrograms(t *testing.T) {
	r := partytest.StartRelay(t)
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			caller, callee := p.start(t), p.start(t)
			for _, transport := range []string{"udp", "tcp"} {
				t.Run(transport, func(t *testing.T) {
					partytest.Call(t, r, transport, caller, callee, p.restarts)
				})
			}
		})
	}
}

func (p program) start(t *testing.T) *party.Party {
	t.Helper()
	check := exec.Command(p.check[0], p.check[1:]...)
	check.Dir = filepath.FromSlash(datachannel) // whose packages node finds
	if out, err := check.CombinedOutput(); err != nil {
		lacks(t, "%s: %v: %s\n%s", p.name, err, p.install, out)
	}
	party, err := party.Start(t.Context(), exec.Command(p.command[0], p.command[1:]...), partytest.Size, partytest.Rate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := party.Close(); err != nil {
			t.Error(err)
		}
	})
	return party
}
