package page

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/mailturn/mailturn/endpoint/http/respond"
	"github.com/mailturn/mailturn/framework/cluster"
)

// Bounds of what is shown of a cluster, into whose Redis others may write.
const (
	maxRelaysShown   = 200
	maxFailuresShown = 3 // of the probes of one relay
)

// A Cluster is what this machine knows of the relays of all machines.
type Cluster struct {
	Answered time.Time // when Redis last answered; zero if never
	Outages  []string  // what is not shared through Redis, each a sentence
	Relays   []ClusterRelay
}

// A ClusterRelay is a relay of a cluster.
type ClusterRelay struct {
	cluster.Relay
	State   string // as mailturn ctl cluster has it
	Secrets SharedSecrets
}

// SharedSecrets is how the secrets that a relay accepts compare with those of this machine.
type SharedSecrets string

// Values of SharedSecrets.
const (
	SameSecrets      SharedSecrets = "same"
	DifferentSecrets SharedSecrets = "different" // some are the same
	NoSecrets        SharedSecrets = "none"      // none is the same
)

// shownRelay is a relay on the page.
type shownRelay struct {
	Name          string        `json:"name"`
	Own           bool          `json:"own"` // of this machine
	Server        string        `json:"server"`
	UDP           []uint16      `json:"udp"`
	TCP           []uint16      `json:"tcp"`
	TLS           []uint16      `json:"tls"`
	State         string        `json:"state"`
	Region        string        `json:"region"`
	Weight        int           `json:"weight"`
	Allocations   int           `json:"allocations"`
	Limit         int           `json:"limit"` // 0 for none
	BitsPerSecond int64         `json:"bitsPerSecond"`
	Version       string        `json:"version"`
	Age           float64       `json:"age"`      // seconds since it announced itself last
	FailedBy      []string      `json:"failedBy"` // relays that cannot reach it, and why
	FailedByCount int           `json:"failedByCount"`
	Secrets       SharedSecrets `json:"secrets"`
}

// clusterState is the answer of relaysPath.
type clusterState struct {
	Now        int64        `json:"now"`
	Answered   int64        `json:"answered"` // 0 for never
	Outages    []string     `json:"outages"`
	Relays     []shownRelay `json:"relays"`
	RelayCount int          `json:"relayCount"`
}

// clusterOf returns the cluster of this machine, nil if there is none.
func (p *Page) clusterOf() *Cluster {
	if p.source.Cluster == nil {
		return nil
	}
	return p.source.Cluster()
}

// serveCluster serves the page of the cluster to the operator.
func (p *Page) serveCluster(w http.ResponseWriter, v Visit) {
	switch {
	case !p.sessions.valid(v, p.now()):
		redirect(w, loginPath)
	case p.clusterOf() == nil:
		redirect(w, rootPath)
	default:
		writeAsset(w, http.StatusOK, "cluster.html")
	}
}

// serveRelays answers the operator with the state of the cluster, or null if there is none.
func (p *Page) serveRelays(w http.ResponseWriter, v Visit) {
	now := p.now()
	if !p.sessions.valid(v, now) {
		respond.Problem(w, http.StatusUnauthorized, "log in first")
		return
	}
	var answer *clusterState
	if c := p.clusterOf(); c != nil {
		answer = c.state(now)
	}
	respond.JSON(w, http.StatusOK, "application/json", answer)
}

// state returns what the page shows: relays that get no calls first, and otherwise in the order of their names.
func (c *Cluster) state(now time.Time) *clusterState {
	s := &clusterState{
		Now: now.Unix(), Outages: append([]string{}, c.Outages...), Relays: []shownRelay{}, RelayCount: len(c.Relays),
	}
	if !c.Answered.IsZero() {
		s.Answered = c.Answered.Unix()
	}
	sorted := slices.SortedFunc(slices.Values(c.Relays), func(a, b ClusterRelay) int {
		return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a.Name, b.Name))
	})
	for _, r := range sorted[:min(len(sorted), maxRelaysShown)] {
		s.Relays = append(s.Relays, shownRelay{
			Name: r.Name, Own: r.Own, Server: r.Server, UDP: notNull(r.UDP), TCP: notNull(r.TCP), TLS: notNull(r.TLS),
			State: r.State, Region: r.Region, Weight: r.Weight, Allocations: r.Allocations, Limit: r.Capacity,
			BitsPerSecond: r.BitsPerSecond, Version: r.Version, Age: max(0, now.Sub(r.Seen).Seconds()),
			FailedBy: notNull(r.FailedBy[:min(len(r.FailedBy), maxFailuresShown)]), FailedByCount: len(r.FailedBy), Secrets: r.Secrets,
		})
	}
	return s
}

// order is 0 for a relay that gets no calls of this machine's accounts, and 1 for others.
func (r ClusterRelay) order() int {
	if r.Welcomes() && r.Secrets != NoSecrets {
		return 1
	}
	return 0
}

// notNull returns an empty slice for nil, which is null in JSON.
func notNull[T any](s []T) []T { return append([]T{}, s...) }
