package link

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// BenchmarkDroppedRequest measures the cost of a request that is dropped during a flood because too many are waiting.
func BenchmarkDroppedRequest(b *testing.B) {
	on, err := loop.New(loop.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer on.Close()
	request := make([]byte, 130)
	from := session.Client{Tuple: event.FiveTuple{Client: netip.MustParseAddrPort("192.0.2.1:5000")}}
	var counters count.Counters
	b.ReportAllocs()
	on.Do(func() {
		now := time.Now()
		for b.Loop() {
			handleInTurn(on, request, from, now, ignoring{}, &counters)
		}
	})
	b.ReportMetric(float64(counters.Dropped[event.DropOverload].Load())/float64(b.N), "dropped/op")
}

// ignoring implements messageHandler.
type ignoring struct{}

func (ignoring) handle([]byte, session.Client, time.Time) {}
