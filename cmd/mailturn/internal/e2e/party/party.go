// Package party runs the ends of long calls: implementations of WebRTC, in programs of their own and in browsers.
//
// They all have the same methods. A program reads each call of a method as a line of JSON, and answers with another; a page of
// package browser fetches it.
package party

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Server is an entry of RTCConfiguration.iceServers.
type Server struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// Counts is what a party has counted since it was asked last.
type Counts struct {
	// Sent counts the messages that the data channel accepted, and Received those that arrived, with Bytes in all.
	Sent     int `json:"sent"`
	Received int `json:"received"`
	Bytes    int `json:"bytes"`
	// LongestGap is the longest time without an arrival, in milliseconds. It includes the time since the last one.
	LongestGap float64 `json:"longestGap"`
	// RoundTrip is the median round trip of every 50th message, in milliseconds, or 0 if none has been echoed.
	RoundTrip float64 `json:"roundTrip"`
	// Relay is the address of the local candidate in use.
	Relay string `json:"relay"`
}

// Add adds later counts to c.
func (c *Counts) Add(next Counts) {
	c.Sent, c.Received, c.Bytes = c.Sent+next.Sent, c.Received+next.Received, c.Bytes+next.Bytes
	c.LongestGap = max(c.LongestGap, next.LongestGap)
	if next.RoundTrip != 0 {
		c.RoundTrip = next.RoundTrip
	}
	c.Relay = next.Relay
}

// State is what a party says of its connection.
type State struct {
	// Connection is RTCPeerConnection.connectionState, and Channel RTCDataChannel.readyState.
	Connection string `json:"connection"`
	Channel    string `json:"channel"`
	// Relay is the address of the local candidate in use, or empty.
	Relay string `json:"relay"`
	// Current says whether that candidate is in the newest local description. It is false until an ICE restart has taken effect.
	Current bool `json:"current"`
}

// caller calls the methods of a program or a page.
type caller interface {
	Call(ctx context.Context, value any, method string, args ...any) error
}

// Party is one end of a call over relayed candidates. From the moment its data channel is open, it sends numbered messages at an
// even rate, over a channel that is unordered and retransmits nothing, and counts those of the other end.
type Party struct {
	caller caller
	prefix string // of method names
	close  func() error
}

// begin sets the size of messages, in bytes, and their rate, in messages a second.
func (p *Party) begin(ctx context.Context, size, rate int) error {
	return p.call(ctx, nil, "begin", size, rate)
}

func (p *Party) call(ctx context.Context, value any, method string, args ...any) error {
	return p.caller.Call(ctx, value, p.prefix+method, args...)
}

// Offer returns an offer with all candidates, for an ICE restart of the connection that exists, or else for a new one, which
// closes the old one. An error says that there is no candidate.
func (p *Party) Offer(ctx context.Context, servers []Server, restart bool) (sdp string, err error) {
	return sdp, p.call(ctx, &sdp, "offer", servers, restart)
}

// Answer returns the answer to another party's offer, with all candidates.
func (p *Party) Answer(ctx context.Context, servers []Server, offer string, restart bool) (sdp string, err error) {
	return sdp, p.call(ctx, &sdp, "answer", servers, restart, offer)
}

// Accept takes the answer to the party's own offer.
func (p *Party) Accept(ctx context.Context, answer string) error {
	return p.call(ctx, nil, "accept", answer)
}

// State returns what the party says of its connection now.
func (p *Party) State(ctx context.Context) (State, error) {
	var s State
	return s, p.call(ctx, &s, "state")
}

// Connected waits until the data channel is open and ICE uses a candidate of the newest local description. The error says what
// is still missing when ctx ends.
func (p *Party) Connected(ctx context.Context) error {
	var last State
	for {
		s, err := p.State(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("not connected but %+v: %w", last, err)
		case err != nil:
			return err
		case s.Channel == "open" && s.Current: // werift sometimes calls such a connection failed
			return nil
		}
		last = s
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Counts returns what the party has counted since it was asked last.
func (p *Party) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	return c, p.call(ctx, &c, "counts")
}

// Quiet stops the party's messages until its next connection, so that those under way can arrive.
func (p *Party) Quiet(ctx context.Context) error { return p.call(ctx, nil, "quiet") }

// Close ends the connection, and then the program or the browser.
func (p *Party) Close() error { return p.close() }

// request is a call on its way to a program.
type request struct {
	ID     int    `json:"id"`
	Method string `json:"method"`
	Args   []any  `json:"args"`
}

// answer is what came of it.
type answer struct {
	ID    int             `json:"id"`
	Value json.RawMessage `json:"value"`
	Error string          `json:"error"`
}

func (a answer) decode(value any) error {
	if a.Error != "" {
		return errors.New(a.Error)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(a.Value, value)
}
