package rough

import (
	"context"
	"time"
)

// An agent is one end of a call: a program of its own, in a network namespace. From the moment its data channel is open, it
// sends numbered messages at an even rate, over a channel that is unordered and retransmits nothing, and counts those of the
// other end.
type agent interface {
	// Offer returns an offer with all candidates, for an ICE restart of the connection that exists, or else for a new one,
	// which closes the old one.
	Offer(ctx context.Context, servers []server, restart bool) (sdp string, err error)
	// Answer returns the answer to another agent's offer, with all candidates.
	Answer(ctx context.Context, servers []server, offer string, restart bool) (sdp string, err error)
	// Accept takes the answer to the agent's own offer.
	Accept(ctx context.Context, answer string) error
	// Connected waits until ICE is connected and the data channel open.
	Connected(ctx context.Context) error
	// Counts returns what has happened since it was called last.
	Counts(ctx context.Context) (counts, error)
	Close() error
}

// server is an entry of RTCConfiguration.iceServers.
type server struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// counts is what an agent has counted since the last time.
type counts struct {
	Sent, Received, Bytes int
	LongestGap            float64 // between arrivals, in milliseconds
	RoundTrip             float64 // median of the echoes of each 50th message, in milliseconds
	Relay                 string  // address of the local candidate in use
}

// gap is the longest time between arrivals.
func (c counts) gap() time.Duration { return time.Duration(c.LongestGap * float64(time.Millisecond)) }
