package page

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mailturn/mailturn/endpoint/http/respond"
	"github.com/mailturn/mailturn/framework/history"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/framework/privacy"
	"github.com/mailturn/mailturn/turnsrv/event"
)

// A Source is what the page shows of the process. Its functions are called concurrently.
type Source struct {
	Metrics prometheus.Gatherer
	Health  func() error
	// Sessions describes the allocations of all relays of this process. nil stands for no relay that can tell.
	Sessions func(context.Context) ([]event.Allocation, error)
	// Mask masks addresses and accounts. nil shows them.
	Mask *privacy.Mask
	// Warnings returns the last warnings and errors of the log, the newest first. nil stands for none.
	Warnings func() []log.Line
	// Cluster describes the cluster of this machine, nil if it is in none. nil stands for a function that returns nil.
	Cluster func() *Cluster
}

const (
	maxSessionsShown = 200
	sessionsLimit    = 5 * time.Second // for relays to describe their sessions
)

// Follow reads the metrics every history.Step until ctx is done, if wanted says that there is somebody to show them to.
func (p *Page) Follow(ctx context.Context, wanted func() bool) {
	ticker := time.NewTicker(history.Step)
	defer ticker.Stop()
	var before *totals
	for {
		if wanted() {
			read := gather(p.source.Metrics, p.now())
			if before != nil {
				p.history.Add(read.at, read.since(before))
			}
			before = &read
		} else {
			before = nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// number is a value in JSON; null if it is missing.
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(n), 'g', 5, 64), nil
}

// plot are points in the form that the page draws.
type plot struct {
	Times  []int64    `json:"times"` // seconds since the Unix epoch
	Values [][]number `json:"values"`
}

func plotOf(p history.Points) plot {
	drawn := plot{Times: []int64{}, Values: [][]number{}}
	for _, t := range p.Times {
		drawn.Times = append(drawn.Times, t.Unix())
	}
	for _, series := range p.Values {
		numbers := make([]number, len(series))
		for i, v := range series {
			numbers[i] = number(v)
		}
		drawn.Values = append(drawn.Values, numbers)
	}
	return drawn
}

// shownSession is one relayed address.
type shownSession struct {
	Account   string `json:"account"`
	Client    string `json:"client"`
	Transport string `json:"transport"`
	Relayed   string `json:"relayed"`
	Made      int64  `json:"made"`
	Peers     int    `json:"peers"`
	ToPeer    uint64 `json:"toPeer"`   // bytes
	ToClient  uint64 `json:"toClient"` // bytes
	Packets   uint64 `json:"packets"`
	Dropped   uint64 `json:"dropped"` // packets
}

type shownWarning struct {
	Time  int64  `json:"time"`
	Level string `json:"level"`
	Text  string `json:"text"`
}

// state is the answer of statusPath.
type state struct {
	Now          int64          `json:"now"`
	Version      string         `json:"version"`
	Problem      string         `json:"problem"` // what keeps the server from serving; empty if all is well
	Calls        float64        `json:"calls"`
	Streams      float64        `json:"streams"`
	Connections  float64        `json:"connections"` // of IMAP clients
	Reasons      []string       `json:"reasons"`     // of the last series
	Hour         plot           `json:"hour"`
	Day          plot           `json:"day"`
	Certificates []certificate  `json:"certificates"`
	Sessions     []shownSession `json:"sessions"` // the busiest ones
	SessionCount int            `json:"sessionCount"`
	Warnings     []shownWarning `json:"warnings"`
}

// serveStatus answers the operator with the state of the process.
func (p *Page) serveStatus(w http.ResponseWriter, v Visit) {
	now := p.now()
	if !p.sessions.valid(v, now) {
		respond.Problem(w, http.StatusUnauthorized, "log in first")
		return
	}
	read := gather(p.source.Metrics, now)
	s := state{
		Now: now.Unix(), Version: read.version, Calls: read.calls, Streams: read.streams, Connections: read.connections,
		Hour: plotOf(p.history.Hour(now)), Day: plotOf(p.history.Day(now)),
		Certificates: append([]certificate{}, read.certificates...), Sessions: []shownSession{}, Warnings: []shownWarning{},
	}
	if err := p.source.Health(); err != nil {
		s.Problem = err.Error()
	}
	for reason := range event.NumRefusalReasons {
		s.Reasons = append(s.Reasons, reason.String())
	}
	if p.source.Warnings != nil {
		for _, line := range p.source.Warnings() {
			s.Warnings = append(s.Warnings, shownWarning{line.Time.Unix(), line.Level.String(), line.Text})
		}
	}
	if p.source.Sessions != nil {
		ctx, cancel := context.WithTimeout(v.Context(), sessionsLimit)
		defer cancel()
		all, err := p.source.Sessions(ctx)
		if err != nil {
			p.lines.Log(p.logger, slog.LevelWarn, "page: sessions not described", "err", err)
		}
		s.SessionCount, s.Sessions = len(all), shownSessions(all, p.source.Mask)
	}
	body, err := json.Marshal(s)
	if err != nil {
		respond.Problem(w, http.StatusInternalServerError, "the state cannot be written")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}

// shownSessions returns those that have relayed the most.
func shownSessions(all []event.Allocation, mask *privacy.Mask) []shownSession {
	slices.SortFunc(all, func(a, b event.Allocation) int {
		return cmp.Or(cmp.Compare(b.ToPeer.Bytes+b.ToClient.Bytes, a.ToPeer.Bytes+a.ToClient.Bytes), a.Relayed.Compare(b.Relayed))
	})
	shown := []shownSession{}
	for _, a := range all[:min(len(all), maxSessionsShown)] {
		one := shownSession{
			Account: mask.Account(cmp.Or(a.Subject.Name, a.Username)), Client: mask.AddrPort(a.Tuple.Client), Transport: a.Tuple.Transport.String(), Relayed: a.Relayed.String(),
			Made: a.Made.Unix(), Peers: a.Peers, ToPeer: a.ToPeer.Bytes, ToClient: a.ToClient.Bytes,
			Packets: a.ToPeer.Packets + a.ToClient.Packets,
		}
		for _, n := range a.Dropped {
			one.Dropped += uint64(n)
		}
		shown = append(shown, one)
	}
	return shown
}

func (p *Page) serveRoot(w http.ResponseWriter, v Visit) {
	if !p.sessions.valid(v, p.now()) {
		redirect(w, loginPath)
		return
	}
	writeAsset(w, http.StatusOK, "status.html")
}
