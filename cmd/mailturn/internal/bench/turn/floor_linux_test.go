package turn

import (
	"os/exec"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
)

// TestForwarderIsMeasured puts a little of each load over UDP on all variants of the forwarder.
func TestForwarderIsMeasured(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("the forwarder needs a C compiler: ", err)
	}
	b := bench{options: options{relay: 100 * time.Millisecond, workers: 2}, dir: t.TempDir(), network: loopback, table: new(report.Table)}
	kinds, err := b.floors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range kinds {
		k.host = loopback.server(100 + i)
		s, err := b.start(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.child.Stop(); err != nil {
				t.Error(err)
			}
		})
		for _, r := range relayRows {
			if r.leg != overUDP || r.bothHere {
				continue
			}
			r.Calls = min(r.Calls, 3)
			if err := b.relay(t.Context(), r, s, false); err != nil {
				t.Errorf("%s, %s: %v", k.name, r.name, err)
			}
			if lost, ok := b.table.Figure(r.name+" lost %", k.name); !ok || lost > 10 {
				t.Errorf("%s, %s: lost %v %%, %v", k.name, r.name, lost, ok)
			}
		}
	}
	if len(withTURN(kinds)) != 0 {
		t.Error("forwarders are taken for TURN servers")
	}
}
