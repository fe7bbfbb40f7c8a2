package http

import (
	"encoding/json"
	"net/http"
)

// problem is an error response, in the form of RFC 9457. The detail is for the developer of the client.
type problem struct {
	status int
	detail string
}

var (
	tooLarge = &problem{http.StatusRequestEntityTooLarge, "a form of this service has a few hundred bytes"}
	notReady = &problem{http.StatusServiceUnavailable, "the server is starting or stopping"}
	// unhealthy does not tell strangers the reason.
	unhealthy = &problem{http.StatusServiceUnavailable, "the server cannot serve: its log says why"}
)

// write answers with the problem.
func (p *problem) write(w http.ResponseWriter) {
	writeJSON(w, p.status, "application/problem+json", struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(p.status), p.status, p.detail})
}

// writeJSON answers with v, one of the types of this package. It ignores errors, which mean that the client has disconnected.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
