package http

import (
	"cmp"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mailturn/mailturn/endpoint/http/respond"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

const (
	maxBody = 4 << 10
	// maxUsername bounds the username parameter, in bytes. With the expiry it stays below the 509 that USERNAME has (RFC
	// 8489 section 14.3).
	maxUsername = 256
	maxKey      = 1 << 10
)

// restResponse is the answer of draft-uberti-behave-turn-rest-00 section 2.2.
type restResponse struct {
	Username string   `json:"username"`
	Password string   `json:"password"`
	TTL      int64    `json:"ttl"` // seconds
	URIs     []string `json:"uris"`
}

// iceResponse is an RTCConfiguration dictionary (W3C WebRTC section 4.2.1), and how many seconds it is good for, which
// browsers ignore.
type iceResponse struct {
	ICEServers []iceServer `json:"iceServers"`
	TTL        int64       `json:"ttl"`
}

// iceServer is an RTCIceServer dictionary (W3C WebRTC section 4.2.2).
type iceServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// serveCredential issues a credential to an authorized client.
func (h *handler) serveCredential(present *settings, w http.ResponseWriter, r *http.Request) {
	present.allowOrigin(w, r)
	if r.Method == http.MethodOptions {
		preflight(w)
		return
	}
	client := present.client(r)
	if wait := present.rate.take(limit.Host(client), h.now()); wait > 0 {
		seconds := int64((wait + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		(&problem{http.StatusTooManyRequests, "too many requests from your address: try again later"}).write(w)
		return
	}
	if !allowMethods(w, r, turnMethods) {
		return
	}
	q, p := readQuery(w, r)
	switch {
	case p != nil:
		p.write(w)
		return
	case !slices.Contains(present.open, r.URL.Path) && !present.keys.accept(q.key):
		w.Header().Set("WWW-Authenticate", "Bearer")
		(&problem{http.StatusUnauthorized, "a valid API key is required, as Authorization: Bearer KEY or in the parameter key"}).write(w)
		return
	case !h.ready() && !present.turn.Diverts():
		notReady.write(w)
		return
	}
	relay, now := present.turn.ForClient(cmp.Or(q.username, client.String()), client), h.now()
	issued := relay.IssueFor(q.username, now)
	ttl := int64(issued.Expires.Sub(now) / time.Second)
	if r.URL.Path == icePath {
		servers := []iceServer{{relay.URIs(), issued.Username, issued.Password}}
		respond.JSON(w, http.StatusOK, "application/json", iceResponse{servers, ttl})
		return
	}
	respond.JSON(w, http.StatusOK, "application/json", restResponse{issued.Username, issued.Password, ttl, relay.URIs()})
}

// query is a request of draft-uberti-behave-turn-rest-00 section 2.1.
type query struct {
	username string
	key      string // the API key
}

// readQuery reads the parameters of a request, from its URL and the form in its body.
func readQuery(w http.ResponseWriter, r *http.Request) (q query, p *problem) {
	if r.Method == http.MethodPost && r.ContentLength != 0 {
		if contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || contentType != "application/x-www-form-urlencoded" {
			return q, &problem{http.StatusUnsupportedMediaType, "want application/x-www-form-urlencoded"}
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody) // HTTP/2 needs no Content-Length
	}
	if err := r.ParseForm(); err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return q, tooLarge
		}
		return q, &problem{http.StatusBadRequest, "the parameters are malformed"}
	}
	service, err := parameter(r.Form, "service", maxUsername)
	if err == nil && service != "" && service != "turn" {
		err = fmt.Errorf("parameter service: want turn")
	}
	if err == nil {
		q.username, err = parameter(r.Form, "username", maxUsername)
	}
	if err == nil {
		q.key, err = parameter(r.Form, "key", maxKey)
	}
	if err != nil {
		return q, &problem{http.StatusBadRequest, err.Error()}
	}
	if scheme, key, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		q.key = key
	}
	return q, nil
}

// parameter returns the value of a parameter, or nothing if there is none. Janus sends each one in the URL and in the body,
// so equal values are one. Different values are refused: a proxy that checks one of them may not check the one used here.
func parameter(form url.Values, name string, maxLen int) (string, error) {
	values := form[name]
	if len(values) == 0 {
		return "", nil
	}
	value := values[0]
	switch {
	case slices.ContainsFunc(values, func(other string) bool { return other != value }):
		return "", fmt.Errorf("parameter %s is given more than once, with different values", name)
	case len(value) > maxLen:
		return "", fmt.Errorf("parameter %s: at most %d bytes are accepted, got %d", name, maxLen, len(value))
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return "", fmt.Errorf("parameter %s: want UTF-8 text without control characters", name)
	}
	return value, nil
}
