package control

import (
	"net/http"
	"time"
)

const (
	// gatePlaces is how many requests a Gate admits at a time.
	gatePlaces = 4
	// gateTimeout is how long a request waits for a place: longer than a client that reads nothing keeps one, and shorter than its own
	// body may take to arrive.
	gateTimeout = (progressTimeout + readTimeout) / 2
)

// A Gate bounds the memory of responses that may be long, such as lists: it admits a few requests at a time, each until its response
// has been read. Safe for concurrent use.
type Gate struct{ places chan struct{} }

// NewGate returns a Gate.
func NewGate() Gate { return Gate{make(chan struct{}, gatePlaces)} }

// Handler returns a handler that sends what answer returns, as the function of that name does. If there is no place for a request
// within a few seconds, it gets a 503.
func (g Gate) Handler(answer Answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout := time.NewTimer(gateTimeout)
		defer timeout.Stop()
		select {
		case g.places <- struct{}{}:
			defer func() { <-g.places }()
			respond(w, r, answer)
		case <-timeout.C:
			respond(w, r, busy)
		case <-r.Context().Done():
		}
	})
}

// busy answers a request for which there is no place.
func busy(http.ResponseWriter, *http.Request) (any, error) {
	return nil, Errorf(http.StatusServiceUnavailable, "other clients are being sent lists: try again in a few seconds")
}
