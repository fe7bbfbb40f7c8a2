package link

import (
	"testing"

	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// panicking is a Handler that cannot restore anything.
type panicking struct{ Movable }

func (panicking) Restore(*handover.Incoming, *handover.Link, func(int) (session.Connection, bool)) error {
	panic("a bug")
}

// TestRestoreReportsPanic checks that the event loop, which recovers from a panic, does not make a success of it: the other process would
// end calls that this one does not have.
func TestRestoreReportsPanic(t *testing.T) {
	on, err := loop.New(loop.Options{Panicked: func(any, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	begun := make(chan struct{})
	close(begun)
	streams := &Streams{loop: on, begun: begun, handler: panicking{}}
	streams.shares = []*Streams{streams}
	for name, link := range map[string]interface {
		Restore(*handover.Incoming, []*handover.Link) error
	}{"streams": streams, "datagrams": &loopDatagram{loop: on, begun: begun, handler: panicking{}}} {
		if err := link.Restore(nil, []*handover.Link{{}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
