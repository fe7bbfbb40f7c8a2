// Package respond writes HTTP responses with JSON. It ignores errors of writing, which mean that the client has disconnected.
package respond

import (
	"encoding/json"
	"net/http"
)

// JSON responds with v, which must be of a type that JSON can encode.
func JSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// Problem responds with an error in the form of RFC 9457. detail is for the developer of the client.
func Problem(w http.ResponseWriter, status int, detail string) {
	JSON(w, status, "application/problem+json", struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(status), status, detail})
}
