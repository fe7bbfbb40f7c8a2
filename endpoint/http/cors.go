package http

import (
	"net/http"
	"slices"
)

// allowOrigin lets scripts of the allowed origins read the answer (Fetch standard, section 3.2). Other scripts can still send the
// request, as any program can, but do not see the answer.
func (s *settings) allowOrigin(w http.ResponseWriter, r *http.Request) {
	if len(s.origins) == 0 {
		return
	}
	w.Header().Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	switch {
	case origin == "":
	case slices.Contains(s.origins, "*"):
		w.Header().Set("Access-Control-Allow-Origin", "*")
	case slices.Contains(s.origins, origin):
		w.Header().Set("Access-Control-Allow-Origin", origin)
	}
}

// preflight answers a browser that asks whether a script may send a request.
func preflight(w http.ResponseWriter) {
	w.Header().Set("Allow", turnMethods)
	if w.Header().Get("Access-Control-Allow-Origin") != "" {
		w.Header().Set("Access-Control-Allow-Methods", turnMethods)
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		w.Header().Set("Access-Control-Max-Age", "600") // seconds
	}
	w.WriteHeader(http.StatusNoContent)
}

const turnMethods = "GET, HEAD, POST, OPTIONS"
