package page

import (
	"html/template"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/mailturn/mailturn/endpoint/http/respond"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// Bounds of logins.
const (
	loginBurst = 10               // attempts of one address (IPv6: /64) at once
	loginEvery = 15 * time.Second // until it may try again
	// The same for one network (IPv4: /24, IPv6: /48): whoever has it has thousands of addresses, and could keep the slot busy.
	networkBurst = 30
	networkEvery = 5 * time.Second
	// verifyWait is how long a login waits while others are verified. One is at a time, because each takes time, and with argon2id
	// memory, on purpose.
	verifyWait = 5 * time.Second

	maxLoginBody = 4 << 10
	maxPassword  = 1 << 10
)

// logins limits how fast passwords can be guessed. It is safe for concurrent use.
type logins struct {
	slot chan struct{}

	mu              sync.Mutex // guards what follows
	hosts, networks *limit.Sources
}

func newLogins() logins {
	start := time.Unix(0, 0)
	return logins{
		slot:     make(chan struct{}, 1),
		hosts:    limit.NewSources(loginEvery, loginBurst, start),
		networks: limit.NewSources(networkEvery, networkBurst, start),
	}
}

// attempt counts an attempt of client if it is granted. wait is then 0, else the time after which there is another one.
func (l *logins) attempt(client netip.Addr, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	host, network := limit.Host(client), limit.Network(client)
	if wait = max(l.hosts.Wait(host, 1, now), l.networks.Wait(network, 1, now)); wait > 0 {
		return wait
	}
	l.hosts.Take(host, 1, now)
	l.networks.Take(network, 1, now)
	return 0
}

var loginTemplate = template.Must(template.ParseFS(assets, "assets/login.html"))

func (p *Page) serveLogin(w http.ResponseWriter, v Visit) {
	if p.sessions.valid(v, p.now()) {
		redirect(w, rootPath)
		return
	}
	showLogin(w, http.StatusOK, "")
}

// showLogin answers with the login form, and above it what is wrong, if anything is.
func showLogin(w http.ResponseWriter, status int, problem string) {
	w.Header().Set("Content-Type", mediaTypes[".html"])
	w.WriteHeader(status)
	loginTemplate.Execute(w, problem)
}

// login begins a session for whoever knows the password.
func (p *Page) login(w http.ResponseWriter, v Visit) {
	if contentType, _, err := mime.ParseMediaType(v.Header.Get("Content-Type")); err != nil || contentType != "application/x-www-form-urlencoded" {
		respond.Problem(w, http.StatusUnsupportedMediaType, "want application/x-www-form-urlencoded")
		return
	}
	v.Body = http.MaxBytesReader(w, v.Body, maxLoginBody)
	if err := v.ParseForm(); err != nil || len(v.PostForm.Get("password")) > maxPassword {
		showLogin(w, http.StatusBadRequest, "The form is malformed or too long.")
		return
	}
	if wait := p.logins.attempt(v.Client, p.now()); wait > 0 {
		p.lines.Log(p.logger, slog.LevelWarn, "page: too many logins from one address or network", "client", v.Client)
		seconds := retryAfter(w, wait)
		showLogin(w, http.StatusTooManyRequests, "Too many attempts from your address or network. Try again in "+strconv.FormatInt(seconds, 10)+" seconds.")
		return
	}
	timer := time.NewTimer(verifyWait)
	defer timer.Stop()
	select {
	case p.logins.slot <- struct{}{}:
	case <-timer.C:
		showLogin(w, http.StatusServiceUnavailable, "Too many people are logging in. Try again later.")
		return
	case <-v.Context().Done():
		return
	}
	ok := v.Access.password.Verify(v.PostForm.Get("password"))
	<-p.logins.slot
	if !ok {
		p.lines.Log(p.logger, slog.LevelWarn, "page: wrong password", "client", v.Client)
		showLogin(w, http.StatusForbidden, "The password is wrong.")
		return
	}
	p.logger.Info("page: logged in", "client", v.Client)
	http.SetCookie(w, p.sessions.begin(v, p.now()))
	redirect(w, rootPath)
}

func (p *Page) logout(w http.ResponseWriter, v Visit) {
	http.SetCookie(w, p.sessions.end(v))
	redirect(w, loginPath)
}

// retryAfter sets the header of that name to wait, rounded up to seconds, which it returns.
func retryAfter(w http.ResponseWriter, wait time.Duration) (seconds int64) {
	seconds = int64((wait + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	return seconds
}
