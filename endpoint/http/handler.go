package http

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/endpoint/http/page"
	"github.com/mailturn/mailturn/endpoint/http/respond"
	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// The paths that are served.
const (
	turnPath    = "/turn"
	icePath     = "/ice"
	metricsPath = "/metrics"
	healthPath  = "/healthz"
	readyPath   = "/readyz"
)

// handler answers requests. It is safe for concurrent use.
type handler struct {
	settings atomic.Pointer[settings] // of the configuration in force
	ready    func() bool
	health   func() error
	metrics  http.Handler
	page     *page.Page
	requests *requestCounter
	logger   *slog.Logger
	now      func() time.Time
}

// settings are the values of a configuration. They do not change once they are in force, except proxyNoticed.
type settings struct {
	issues         bool         // on /turn and /ice
	access         *page.Access // nil without a page
	turn           issuer.Config
	keys           apiKeys
	open           []string
	metricsFrom    listen.Networks
	proxies        listen.Networks
	origins        []string
	rate           *rateLimit
	maxConnections int

	proxyNoticed atomic.Bool // the operator has been told of a proxy that is not trusted
}

func newSettings(c Config) (*settings, error) {
	var access *page.Access
	if !c.PagePassword.IsZero() {
		var err error
		if access, err = page.NewAccess(c.PagePassword, c.TURN); err != nil {
			return nil, fmt.Errorf("page_password: %w", err)
		}
	}
	return &settings{
		issues: c.servesCredentials(), access: access,
		turn: c.TURN, keys: newAPIKeys(c.APIKeys), open: c.Open, metricsFrom: c.MetricsFrom, proxies: c.TrustedProxies,
		origins: c.AllowOrigins, rate: newRateLimit(c.Rate), maxConnections: c.MaxConnections,
	}, nil
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			h.logger.Error("panic in an HTTP request", "err", v, "stack", string(debug.Stack()))
			panic(http.ErrAbortHandler) // makes net/http close the connection without logging
		}
	}()
	setTLS(r)
	counted := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	present := h.settings.Load()
	h.noticeProxy(present, r)
	// Answers must not be cached, and declare their type.
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if p := checkFraming(w, r); p != nil {
		p.write(counted)
	} else {
		h.route(present, counted, r)
	}
	label := r.URL.Path
	if present.access != nil && page.Serves(label) {
		label = pageLabel
	}
	h.requests.count(label, counted.status)
	h.logger.Debug("request", "client", present.client(r), "method", r.Method, "path", r.URL.Path, "status", counted.status)
}

// noticeProxy warns the operator once about a proxy that is missing from trusted_proxies. It ignores clients on the internet, which
// may send the headers too and must not be trusted.
func (h *handler) noticeProxy(present *settings, r *http.Request) {
	sign := present.strangeProxy(r)
	if sign == "" || !isNear(peerAddr(r.RemoteAddr)) || present.proxyNoticed.Swap(true) {
		return
	}
	h.logger.Warn("requests come through an untrusted proxy: all of its clients share one rate and get no metrics; add its address to trusted_proxies",
		"proxy", peerAddr(r.RemoteAddr), "sign", sign)
}

// checkFraming refuses requests that a proxy in front could cut differently from this server (RFC 9112 section 11.2), and closes
// their connection, so that nothing after them is read as a request. No client of this endpoint needs a body other than a short
// form with its length.
func checkFraming(w http.ResponseWriter, r *http.Request) *problem {
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		w.Header().Set("Connection", "close") // net/http ignores a Transfer-Encoding there
	}
	switch {
	case len(r.TransferEncoding) > 0:
		w.Header().Set("Connection", "close")
		return &problem{http.StatusLengthRequired, "send a body with Content-Length and without Transfer-Encoding"}
	case r.ContentLength > maxBody:
		w.Header().Set("Connection", "close")
		return tooLarge
	case r.ContentLength != 0 && r.Method != http.MethodPost:
		w.Header().Set("Connection", "close")
		return &problem{http.StatusBadRequest, "a " + http.MethodPost + " alone may have a body"}
	}
	return nil
}

func (h *handler) route(present *settings, w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case present.issues && (path == turnPath || path == icePath):
		h.serveCredential(present, w, r)
	case path == metricsPath:
		switch {
		case present.strangeProxy(r) != "":
			(&problem{http.StatusForbidden, "metrics are not available through an untrusted proxy: see trusted_proxies in the configuration"}).write(w)
		case !present.metricsFrom.Contains(present.client(r)):
			(&problem{http.StatusForbidden, "metrics are not available to your address: see metrics_from in the configuration"}).write(w)
		case allowMethods(w, r, "GET, HEAD"):
			h.metrics.ServeHTTP(w, r)
		}
	case path == healthPath:
		if allowMethods(w, r, "GET, HEAD") {
			respond.JSON(w, http.StatusOK, "application/json", health{"ok"})
		}
	case path == readyPath:
		switch {
		case !allowMethods(w, r, "GET, HEAD"):
		case !h.ready():
			notReady.write(w)
		case h.health() != nil:
			unhealthy.write(w)
		default:
			respond.JSON(w, http.StatusOK, "application/json", health{"ok"})
		}
	case present.access != nil && page.Serves(path):
		h.servePage(present, w, r)
	default:
		(&problem{http.StatusNotFound, "nothing is served on this path"}).write(w)
	}
}

// servePage answers a request for the page.
func (h *handler) servePage(present *settings, w http.ResponseWriter, r *http.Request) {
	client := present.client(r)
	h.page.Serve(w, page.Visit{
		Request: r, Access: present.access, Client: client, Secure: present.secure(r), Ready: h.ready(),
		Allow: func() time.Duration { return present.rate.take(limit.Host(client), h.now()) },
	})
}

// health is the answer of /healthz and /readyz if the process is healthy.
type health struct {
	Status string `json:"status"`
}

// allowMethods reports whether the request has one of the methods, given in the form of the header Allow, and answers it if not.
func allowMethods(w http.ResponseWriter, r *http.Request, allowed string) bool {
	if slices.Contains(strings.Split(allowed, ", "), r.Method) {
		return true
	}
	w.Header().Set("Allow", allowed)
	(&problem{http.StatusMethodNotAllowed, "want " + allowed}).write(w)
	return false
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
