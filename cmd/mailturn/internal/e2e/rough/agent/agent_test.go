package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party/partytest"
)

// asParty has the test's own binary be the program.
const asParty = "MAILTURN_PARTY"

func TestMain(m *testing.M) {
	if os.Getenv(asParty) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestCall(t *testing.T) {
	r := partytest.StartRelay(t)
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			var parties []*party.Party
			for range 2 {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), asParty+"=1")
				p, err := party.Start(t.Context(), cmd, partytest.Size, partytest.Rate)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := p.Close(); err != nil {
						t.Error(err)
					}
				})
				parties = append(parties, p)
			}
			partytest.Call(t, r, transport, parties[0], parties[1], true)
		})
	}
	if log := r.Log(); strings.Count(log, "allocation made") < 12 {
		t.Errorf("mailturn made fewer allocations than three for each party:\n%s", log)
	}
}
