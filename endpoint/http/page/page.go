// Package page is the web page of the http endpoint: the state of the server for its operator, and a call test that runs in the visitor's browser, for the operator and for
// whoever the operator gives a link to.
//
// Nothing on it is generated from data: HTML, scripts and styles are embedded files, and data reaches the scripts as JSON, which
// they show as text. The headers make browsers enforce that.
package page

import (
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/mailturn/mailturn/endpoint/http/respond"
	"github.com/mailturn/mailturn/framework/history"
	"github.com/mailturn/mailturn/framework/log"
)

// The paths that are served. URLs on the page are relative, and none is deeper than one level below its page, so that a proxy may
// put all of them into a folder.
const (
	rootPath     = "/"
	loginPath    = "/login"
	logoutPath   = "/logout"
	callTestPath = "/call-test"
	waysPath     = "/call-test/ways"
	linkPath     = "/call-test/link"
	statusPath   = "/status"
	clusterPath  = "/cluster"
	relaysPath   = "/cluster/state"
	assetsPath   = "/page/"
)

// Serves reports whether path is one of the page's.
func Serves(path string) bool {
	switch path {
	case rootPath, loginPath, logoutPath, callTestPath, waysPath, linkPath, statusPath, clusterPath, relaysPath:
		return true
	}
	return strings.HasPrefix(path, assetsPath)
}

// A Page serves the page of an endpoint for as long as the endpoint runs. It is safe for concurrent use.
type Page struct {
	logger    *slog.Logger
	now       func() time.Time
	sessions  sessions
	logins    logins
	addresses addresses
	source    Source
	history   *history.History
	lines     log.Limit // of refused logins
}

// New returns a page that shows source. now is the clock.
func New(source Source, logger *slog.Logger, now func() time.Time) *Page {
	return &Page{
		logger: logger, now: now, logins: newLogins(), addresses: addresses{lookup: lookUp},
		source: source, history: history.New(numSeries),
	}
}

// A Visit is a request with what the endpoint knows about it.
type Visit struct {
	*http.Request
	Access *Access    // of the configuration in force
	Client netip.Addr // the zero Addr if a trusted proxy does not say who asks
	Secure bool       // the browser uses TLS
	// Allow asks for permission to issue a credential. wait is 0 if it is granted, else the time after which to ask again.
	Allow func() (wait time.Duration)
	Ready bool // credentials may be issued
}

// Serve answers a request for one of the paths that Serves reports.
func (p *Page) Serve(w http.ResponseWriter, v Visit) {
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	if v.Method != http.MethodGet && v.Method != http.MethodHead {
		// Besides SameSite cookies: requests of other sites are refused by the headers that browsers put on them.
		if err := http.NewCrossOriginProtection().Check(v.Request); err != nil {
			respond.Problem(w, http.StatusForbidden, "the request comes from another site")
			return
		}
	}
	route, ok := routes[v.URL.Path]
	if !ok {
		route = map[string]func(*Page, http.ResponseWriter, Visit){http.MethodGet: (*Page).serveAsset}
	}
	method := v.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	serve := route[method]
	if serve == nil {
		allowed := "GET, HEAD"
		if route[http.MethodGet] == nil {
			allowed = http.MethodPost
		} else if route[http.MethodPost] != nil {
			allowed = "GET, HEAD, POST"
		}
		w.Header().Set("Allow", allowed)
		respond.Problem(w, http.StatusMethodNotAllowed, "want "+allowed)
		return
	}
	serve(p, w, v)
}

// routes are the handlers by path and method. What is not here is a file.
var routes = map[string]map[string]func(*Page, http.ResponseWriter, Visit){
	rootPath:     {http.MethodGet: (*Page).serveRoot},
	loginPath:    {http.MethodGet: (*Page).serveLogin, http.MethodPost: (*Page).login},
	logoutPath:   {http.MethodPost: (*Page).logout},
	callTestPath: {http.MethodGet: (*Page).serveCallTest},
	waysPath:     {http.MethodPost: (*Page).serveWays},
	linkPath:     {http.MethodPost: (*Page).serveLink},
	statusPath:   {http.MethodGet: (*Page).serveStatus},
	clusterPath:  {http.MethodGet: (*Page).serveCluster},
	relaysPath:   {http.MethodGet: (*Page).serveRelays},
}

// headers are those of every answer: scripts, styles and connections of this origin alone, no script in the HTML, no string that a
// script turns into HTML or code, and no other page around this one.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Frame-Options":              "DENY",
	"X-Robots-Tag":                 "noindex",
}

// serveAsset serves a file of the page. None of them is secret.
func (p *Page) serveAsset(w http.ResponseWriter, v Visit) {
	name := strings.TrimPrefix(v.URL.Path, assetsPath)
	if path.Ext(name) == ".html" {
		respond.Problem(w, http.StatusNotFound, "there is no such file")
		return
	}
	writeAsset(w, http.StatusOK, name)
}

// redirect sends the browser to another page of this origin, for good after a form.
func redirect(w http.ResponseWriter, path string) {
	w.Header().Set("Location", "."+path)
	w.WriteHeader(http.StatusSeeOther)
}
