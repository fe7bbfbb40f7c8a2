package link

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/mailturn/mailturn/turnsrv/event"
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
