package session

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// TestRealmsAreNoAmplifier checks that the response to a request with a short ORIGIN is no larger than without one.
func TestRealmsAreNoAmplifier(t *testing.T) {
	config := newBareSession(t).shared.config
	config.Realms = map[string]string{"a": strings.Repeat("r", 20)}
	b := newBareSessionOf(config)
	s := signer{from: Client{Tuple: event.FiveTuple{Client: netip.MustParseAddrPort("192.0.2.9:5000")}}}
	var request stun.Builder
	request.Start(stun.MethodAllocate, stun.ClassRequest, stun.TransactionID{1})
	request.Text(stun.AttrOrigin, "a")
	answer := b.fromClient(bytes.Clone(request.Bytes()), s.from, time.Unix(100, 0))
	if len(answer) == 0 || len(answer) > request.Len()+maxAmplification {
		t.Errorf("%d bytes draw %d", request.Len(), len(answer))
	}
}
