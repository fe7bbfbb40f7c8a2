package link

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/handover"
	"github.com/pion/dtls/v3"
)

// export describes the association, which sends nothing from now on: another process may use its keys.
func (a *loopAssociation) export() handover.Association {
	a.exported = true
	return handover.Association{
		Client: a.stream.tuple.Client, Server: a.stream.tuple.Server, Suite: int(a.keys.suite),
		WriteKey: a.keys.write.key, WriteIV: a.keys.write.iv, ReadKey: a.keys.read.key, ReadIV: a.keys.read.iv,
		Next: a.keys.next, Received: a.keys.replay.next, Window: a.keys.replay.seen, Flight: bytes.Clone(a.flight),
	}
}

// canMove reports whether another process, which reads a version of the state, can take over the association.
func (a *loopAssociation) canMove(version int) bool { return !a.ended && version >= 2 }

func (a *loopAssociation) isExported() bool { return a.exported }

// resume implements looped.
func (a *loopAssociation) resume() {
	a.exported = false
	a.keys.next += dtlsMargin
	if a.cut { // it was replaced meanwhile
		a.end()
	}
}

// restoreAssociations makes the loop serve associations, and returns them. One that cannot be restored is nil.
func (l *Streams) restoreAssociations(exported []handover.Association) (streams []*stream) {
	var lost []error
	for i := range exported {
		s, err := l.restoreAssociation(&exported[i])
		if err != nil {
			lost = append(lost, err)
		}
		streams = append(streams, s)
	}
	if len(lost) > 0 {
		l.associations.log.Warn("DTLS clients cannot be taken over, and have to connect again", "clients", len(lost), "err", lost[0])
	}
	return streams
}

func (l *Streams) restoreAssociation(exported *handover.Association) (*stream, error) {
	keys, err := restoreKeys(exported)
	if err != nil {
		return nil, err
	}
	tuple := event.FiveTuple{Client: exported.Client, Server: exported.Server, Transport: event.DTLS}
	owner, err := l.associations.restore(tuple)
	if err != nil {
		return nil, err
	}
	s := &stream{link: l, tuple: tuple, ready: make(chan struct{}, 1), gone: make(chan struct{})}
	// Until the server begins, the other process still has the keys.
	a := &loopAssociation{stream: s, session: owner, keys: keys, flight: slices.Clone(exported.Flight), exported: true}
	s.onLoop = a
	if !l.adopt(s) {
		owner.end()
		return nil, net.ErrClosed
	}
	a.begin(time.Now())
	return s, nil
}

func restoreKeys(exported *handover.Association) (*dtlsKeys, error) {
	suite := dtlsSuiteOf(dtls.CipherSuiteID(exported.Suite))
	if suite == nil {
		return nil, fmt.Errorf("%w: cipher suite %#x", handover.ErrDamaged, exported.Suite)
	}
	if exported.Next > maxDTLSNumber || exported.Received > maxDTLSNumber+1 || len(exported.Flight) > maxDTLSFlight ||
		!exported.Client.IsValid() || !exported.Server.IsValid() {
		return nil, handover.ErrDamaged
	}
	write, err := suite.protection(slices.Clone(exported.WriteKey), slices.Clone(exported.WriteIV))
	if err != nil {
		return nil, err
	}
	read, err := suite.protection(slices.Clone(exported.ReadKey), slices.Clone(exported.ReadIV))
	return &dtlsKeys{
		suite: suite.id, write: write, read: read, next: exported.Next + dtlsMargin, // and more in resume, unlike the other process
		replay: replayWindow{next: exported.Received, seen: exported.Window},
	}, err
}
