package probe

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestSizeSearch tries paths that lose packets above a limit, and lossy ones that also lose the first two packets of each size.
func TestSizeSearch(t *testing.T) {
	for _, limit := range []int{echoSize, echoSize + 1, 500, 1168, 1199, 1200, 1399, maxPacket, 9000} {
		for _, lossy := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s, sent, ofSize := newSizeSearch(), 0, make(map[int]int)
				got := s.run(t.Context(), 3, time.Second, func(payload []byte) error {
					sent++
					ofSize[len(payload)]++
					switch {
					case len(payload) > limit:
						return errors.New("message too long")
					case lossy && ofSize[len(payload)] <= 2:
						return nil
					}
					echoed := slices.Clone(payload)
					time.AfterFunc(100*time.Millisecond, func() { s.received(echoed) })
					return nil
				})
				if want := min(limit, maxPacket); got != want {
					t.Errorf("limit %d, lossy %v: got %d, want %d", limit, lossy, got, want)
				}
				if sent > 500 {
					t.Errorf("limit %d, lossy %v: %d packets were sent", limit, lossy, sent)
				}
			})
		}
	}
}

// TestSizeSearchForeign checks that packets that were not sent, or are too large, are ignored.
func TestSizeSearchForeign(t *testing.T) {
	s := newSizeSearch()
	s.received(nil)
	s.received(make([]byte, 1000))
	s.received(append(s.mark[:], make([]byte, maxPacket)...))
	if got := s.best(); got != echoSize {
		t.Errorf("got %d, want %d", got, echoSize)
	}
}

func TestSizeSearchInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := newSizeSearch().run(ctx, 3, time.Hour, func([]byte) error { return nil }); got != 0 {
		t.Errorf("got %d, want 0 for unknown", got)
	}
}

func TestJudgePacketSize(t *testing.T) {
	echoed := func(largest int) *Echo { return &Echo{Sent: 20, Received: 20, LargestBytes: largest} }
	for _, tt := range []struct {
		name    string
		relay   Relay
		want    Status
		summary string
	}{
		{"all", Relay{RelayToRelay: echoed(1400), Direct: echoed(1400), PathMTU: 1432}, OK, "203.0.113.7:3478 UDP carries packets of 1400 bytes: path MTU 1432 or more."},
		{"tunnel", Relay{RelayToRelay: echoed(1248), Direct: echoed(1248), PathMTU: 1280}, OK, "203.0.113.7:3478 UDP carries packets of up to 1248 bytes: path MTU 1280."},
		{"too small for video", Relay{RelayToRelay: echoed(1168), Direct: echoed(1172), PathMTU: 1200}, Warning, "packets of more than 1168 bytes get lost between here and 203.0.113.7:3478 UDP (path MTU 1200)"},
		{"too small from outside", Relay{RelayToRelay: echoed(1400), Direct: echoed(1000), PathMTU: 1432}, Warning, "packets of more than 1000 bytes get lost between here and the relayed address 203.0.113.7:50000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, a := newRun(Options{}), goodAttempt()
			tt.relay.Transport, tt.relay.RelayedAddr = UDP, a.RelayedAddr
			a.Relay = tt.relay
			r.judgePacketSize(a)
			if !slices.ContainsFunc(r.report.Checks, func(c Check) bool {
				return c.ID == "turn.packet_size" && c.Status == tt.want && strings.Contains(c.Summary, tt.summary)
			}) || len(r.report.Verdict.NotTested) > 0 {
				t.Errorf("got %+v, not tested %q, want %s: %s", r.report.Checks, r.report.Verdict.NotTested, tt.want, tt.summary)
			}
		})
	}
}
