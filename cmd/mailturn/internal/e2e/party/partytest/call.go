package partytest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
)

const (
	// limit is how long one step may take on a busy machine.
	limit = 60 * time.Second
	// Size and Rate are those of the messages that the parties of a test have to send, in bytes, and in messages a second.
	Size, Rate = 160, 50
	// wanted is how many messages have to come, so that one of them is echoed.
	wanted = 2 * Rate
)

// Call connects two parties over the relay, and wants messages to arrive both ways; then after an ICE restart, if they can do
// that, over other relayed addresses; then over a new connection. A wrong password must not give a candidate.
func Call(t *testing.T, r Relay, transport string, caller, callee *party.Party, restarts bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*limit)
	defer cancel()
	before := map[*party.Party]string{}
	steps := []struct {
		name    string
		restart bool
	}{{"the first connection", false}, {"an ICE restart", true}, {"a new connection", false}}
	for _, step := range steps {
		if step.restart && !restarts {
			continue
		}
		connect(ctx, t, step.name, r.servers(transport), caller, callee, step.restart)
		for _, p := range []*party.Party{caller, callee} {
			c := arrive(ctx, t, step.name, p)
			if !strings.HasPrefix(c.Relay, host+":") || c.Relay == before[p] {
				t.Errorf("%s uses the relayed address %q, and the one before used %q", step.name, c.Relay, before[p])
			}
			before[p] = c.Relay
		}
	}

	wrong := r.servers(transport)
	wrong[0].Credential = "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
	if sdp, err := caller.Offer(ctx, wrong, false); err == nil || !strings.Contains(err.Error(), "no candidate") {
		t.Errorf("with a wrong password there is the offer %q and the error %v, want no candidate", sdp, err)
	}
}

// connect has the parties exchange descriptions, and waits until they are connected.
func connect(ctx context.Context, t *testing.T, step string, servers []party.Server, caller, callee *party.Party, restart bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	offer, err := caller.Offer(ctx, servers, restart)
	if err != nil {
		t.Fatalf("%s: %v", step, err)
	}
	answer, err := callee.Answer(ctx, servers, offer, restart)
	if err != nil {
		t.Fatalf("%s: %v", step, err)
	}
	if err := caller.Accept(ctx, answer); err != nil {
		t.Fatalf("%s: %v", step, err)
	}
	for _, p := range []*party.Party{caller, callee} {
		if err := p.Connected(ctx); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if _, err := p.Counts(ctx); err != nil { // so that the next ones are of this connection alone
			t.Fatalf("%s: %v", step, err)
		}
	}
}

// arrive waits until the messages wanted have come, and returns what was counted.
func arrive(ctx context.Context, t *testing.T, step string, p *party.Party) (sum party.Counts) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for sum.Received < wanted || sum.RoundTrip == 0 {
		c, err := p.Counts(ctx)
		if err != nil {
			t.Fatalf("%s: %v, after %+v", step, err, sum)
		}
		sum.Add(c)
		select {
		case <-ctx.Done():
			t.Fatalf("%s: only %+v in %v", step, sum, limit)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if sum.Sent < wanted/2 || sum.Bytes != sum.Received*Size || sum.LongestGap <= 0 {
		t.Errorf("%s: the counts are %+v", step, sum)
	}
	return sum
}
