package link

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// TestDTLSNumbersOfTwoProcesses makes both processes go on with an association that one has passed to the other. Even then, the numbers of
// their records are far apart.
func TestDTLSNumbersOfTwoProcesses(t *testing.T) {
	suite := &dtlsSuites()[0]
	protection, err := suite.protection(make([]byte, suite.keyLen), make([]byte, suite.ivLen))
	if err != nil {
		t.Fatal(err)
	}
	tuple := event.FiveTuple{Client: netip.MustParseAddrPort("192.0.2.1:1000"), Server: netip.MustParseAddrPort("192.0.2.2:3478"), Transport: event.DTLS}
	first := &loopAssociation{
		stream: &stream{tuple: tuple}, keys: &dtlsKeys{suite: suite.id, write: protection, read: protection, next: 5},
	}
	numbers := []uint64{first.keys.next}
	exported := first.export()
	keys, err := restoreKeys(&exported)
	if err != nil {
		t.Fatal(err)
	}
	second := &loopAssociation{stream: first.stream, keys: keys, exported: true}
	second.resume()
	first.resume()
	numbers = append(numbers, first.keys.next, second.keys.next)
	slices.Sort(numbers)
	for i := range numbers[1:] {
		if numbers[i+1]-numbers[i] < dtlsMargin {
			t.Errorf("the next numbers, before and after, are %d", numbers)
		}
	}
}

// departures is a handler that counts the clients that are gone.
type departures struct {
	deaf
	gone int
}

func (d *departures) Gone(session.Client, time.Time) { d.gone++ }

// TestReplacedWhileExported has a client begin another association while another process may take over the first one: its allocation ends
// only if the process goes on, because otherwise the other process ends it, and counts it, too.
func TestReplacedWhileExported(t *testing.T) {
	suite := &dtlsSuites()[0]
	protection, err := suite.protection(make([]byte, suite.keyLen), make([]byte, suite.ivLen))
	if err != nil {
		t.Fatal(err)
	}
	_, begin := idleListener(t)
	owner := begin(at(1, 1))
	l := NewStreams(1, nil, &count.Counters{})
	handler := &departures{}
	l.handler = handler
	s := &stream{link: l, tuple: owner.tuple}
	if !l.adopt(s) {
		t.Fatal("the link is closed")
	}
	a := &loopAssociation{stream: s, session: owner, keys: &dtlsKeys{suite: suite.id, write: protection, read: protection}}
	a.export()
	a.replaced()
	if handler.gone != 0 {
		t.Errorf("%d clients are gone before the process goes on, want none", handler.gone)
	}
	a.resume()
	if handler.gone != 1 {
		t.Errorf("%d clients are gone when the process goes on, want 1", handler.gone)
	}
}
