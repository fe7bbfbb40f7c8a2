package page

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/framework/history"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// TestStatus shows what strangers have named, to nobody but the operator, and escaped even in JSON.
func TestStatus(t *testing.T) {
	const name = "<script>alert(1)</script>"
	s := newSite(t)
	s.warnings = []log.Line{{Time: testNow, Level: slog.LevelWarn, Text: name}}
	s.unhealthy = errors.New("the mail server cannot be reached")
	s.allocations = []event.Allocation{
		{Username: "1758650868:" + name, Relayed: netip.MustParseAddrPort("192.0.2.1:50000"), Made: testNow},
		{
			Subject: credential.Subject{Name: name}, Relayed: netip.MustParseAddrPort("192.0.2.1:50001"), Made: testNow,
			ToPeer: event.Traffic{Bytes: 5, Packets: 1}, Dropped: map[event.DropReason]uint32{0: 2, 1: 3},
		},
	}
	s.wantStatus(t, 401, "GET", "/status")
	s.login(t, testPassword)
	w := s.wantStatus(t, 200, "GET", "/status")
	if strings.Contains(w.Body.String(), "<") {
		t.Errorf("the answer has markup: %s", w.Body)
	}
	var got state
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Warnings) != 1 || got.Warnings[0] != (shownWarning{testNow.Unix(), "WARN", name}) || got.Problem != s.unhealthy.Error() {
		t.Errorf("got %+v and %q", got.Warnings, got.Problem)
	}
	if len(got.Sessions) != 2 || got.Sessions[0].Account != name || got.Sessions[0].Dropped != 5 || got.Sessions[1].Account != "1758650868:"+name {
		t.Errorf("got %+v", got.Sessions)
	}
}

// TestSessionsShownAreBounded has more sessions than a page can show.
func TestSessionsShownAreBounded(t *testing.T) {
	s := newSite(t)
	for i := range 5000 {
		s.allocations = append(s.allocations, event.Allocation{ToPeer: event.Traffic{Bytes: uint64(i)}})
	}
	s.login(t, testPassword)
	var got state
	if err := json.Unmarshal(s.wantStatus(t, 200, "GET", "/status").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Sessions) != maxSessionsShown || got.SessionCount != 5000 || got.Sessions[0].ToPeer != 4999 {
		t.Errorf("%d of %d sessions, the first one with %d bytes", len(got.Sessions), got.SessionCount, got.Sessions[0].ToPeer)
	}
}

// TestFollow lets counters grow for a minute, and then go back as they do when another process is started again.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		calls := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mailturn_turn_allocations"}, []string{"transport"})
		relayed := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mailturn_turn_relayed_bytes_total"}, []string{"direction"})
		packets := prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailturn_turn_relayed_packets_total"})
		dropped := prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailturn_turn_dropped_packets_total"})
		refused := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mailturn_turn_allocations_refused_total"}, []string{"reason"})
		registry.MustRegister(calls, relayed, packets, dropped, refused)
		p := New(Source{Metrics: registry, Health: func() error { return nil }}, slog.New(slog.DiscardHandler), time.Now)
		ctx, stop := context.WithCancel(t.Context())
		var wanted atomic.Bool
		wanted.Store(true)
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.Follow(ctx, wanted.Load)
		}()
		synctest.Wait()
		grow := func() {
			calls.WithLabelValues("udp").Set(2)
			calls.WithLabelValues("tcp").Set(1)
			relayed.WithLabelValues("to_peer").Add(1000)
			relayed.WithLabelValues("to_client").Add(2000)
			packets.Add(90)
			dropped.Add(10)
			refused.WithLabelValues(event.RefusedCredentials.String()).Add(5)
			time.Sleep(history.Step)
			synctest.Wait()
		}
		for range 6 {
			grow()
		}
		hour := p.history.Hour(time.Now())
		if len(hour.Times) != 6 {
			t.Fatalf("%d points, want 6", len(hour.Times))
		}
		for series, want := range map[int]float64{
			seriesCalls: 3, seriesToPeer: 800, seriesToClient: 1600, seriesLoss: 10, seriesRefused + int(event.RefusedCredentials): 30,
		} {
			if got := hour.Values[series][5]; got != want {
				t.Errorf("series %d is %v, want %v", series, got, want)
			}
		}
		relayed.Reset()
		grow()
		if text, err := json.Marshal(plotOf(p.history.Hour(time.Now()))); err != nil || !strings.Contains(string(text), "800,null]") {
			t.Errorf("after a counter has gone back: %s, error %v", text, err)
		}
		wanted.Store(false)
		grow()
		if got := len(p.history.Hour(time.Now()).Times); got != 7 {
			t.Errorf("%d points while nobody wants them, want 7", got)
		}
		stop()
		<-done
	})
}
