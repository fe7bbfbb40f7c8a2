package e2e

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
)

const (
	// partySize and partyRate are those of the messages of parties, in bytes and in messages a second.
	partySize, partyRate = 700, 100
	// partyPoll is how often they are asked for what they counted.
	partyPoll = 100 * time.Millisecond
	// partyPatience is how long parties wait for messages that are under way.
	partyPatience = 3 * time.Second
)

// partyProgram is the command of an implementation of WebRTC that is a program of package party.
type partyProgram []string

func (p partyProgram) start(ctx context.Context, t *testing.T, ns namespace, env []string) *party.Party {
	t.Helper()
	cmd := ns.command(p[0], p[1:]...)
	cmd.Env = append(os.Environ(), env...)
	started, err := party.Start(ctx, cmd, partySize, partyRate)
	if err != nil {
		t.Fatal(err)
	}
	return started
}

// iceServers are the relay as parties take it.
func (s agentServer) iceServers() []party.Server {
	scheme, transport := "turn:", s.transport
	if transport == "tls" {
		scheme, transport = "turns:", "tcp"
	}
	return []party.Server{{
		URLs:     []string{scheme + net.JoinHostPort(s.host, s.port) + "?transport=" + transport},
		Username: s.username, Credential: s.password,
	}}
}

func (p partyProgram) connect(t *testing.T, namespaces []namespace, env []string, servers []agentServer, count int) (results []connected) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), agentLimit)
	defer cancel()
	var parties []*party.Party
	for _, ns := range namespaces {
		started := p.start(ctx, t, ns, env)
		defer func() {
			if err := started.Close(); err != nil {
				t.Error(err)
			}
		}()
		parties = append(parties, started)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	offer, err := parties[0].Offer(ctx, servers[0].iceServers(), false)
	check(err)
	answer, err := parties[1].Answer(ctx, servers[1].iceServers(), offer, false)
	check(err)
	check(parties[0].Accept(ctx, answer))

	counts := make([]party.Counts, len(parties))
	// collect adds to the counts until done.
	collect := func(done func() bool) {
		t.Helper()
		for ; !done(); time.Sleep(partyPoll) {
			for i, p := range parties {
				c, err := p.Counts(ctx)
				check(err)
				counts[i].Add(c)
			}
		}
	}
	for _, p := range parties {
		check(p.Connected(ctx))
	}
	collect(func() bool { return min(counts[0].Sent, counts[1].Sent) >= count })
	for _, p := range parties {
		check(p.Quiet(ctx))
	}
	quiet := time.Now()
	collect(func() bool {
		return counts[0].Received >= counts[1].Sent && counts[1].Received >= counts[0].Sent || time.Since(quiet) > partyPatience
	})

	for i, c := range counts {
		lost := counts[1-i].Sent - c.Received
		// Connected has seen that the candidate is a relayed one.
		results = append(results, connected{c.Relay, "relay", c.Received, lost, c.Bytes, c.RoundTrip})
	}
	return results
}

func (p partyProgram) describe(t *testing.T, ns namespace, env []string, server agentServer) (sdp, wrote string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), agentLimit)
	defer cancel()
	started := p.start(ctx, t, ns, env)
	defer started.Close()
	sdp, err := started.Offer(ctx, server.iceServers(), false)
	if err == nil {
		return sdp, ""
	}
	if !strings.Contains(err.Error(), "no candidate") {
		t.Errorf("got the error %v, want that there is no candidate", err)
	}
	return "", err.Error()
}
