package http

import (
	"net/http"

	"github.com/mailturn/mailturn/endpoint/http/respond"
)

// problem is an error response: see respond.Problem.
type problem struct {
	status int
	detail string
}

var (
	tooLarge = &problem{http.StatusRequestEntityTooLarge, "a form of this service has a few hundred bytes"}
	notReady = &problem{http.StatusServiceUnavailable, "the server is draining, starting or stopping"}
	// unhealthy does not tell strangers the reason.
	unhealthy = &problem{http.StatusServiceUnavailable, "the server cannot serve: its log says why"}
)

func (p *problem) write(w http.ResponseWriter) { respond.Problem(w, p.status, p.detail) }
