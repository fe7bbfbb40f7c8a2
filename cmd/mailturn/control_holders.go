package main

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/holders"
	"github.com/mailturn/mailturn/framework/control"
)

// maxWithin bounds how far the clock of a complaint may differ from ours.
const maxWithin = 24 * time.Hour

// holdersReport is the response to GET /v1/holders.
type holdersReport struct {
	// Holders are who may have held the port: those that have ended, in the order of their ends, and then those that go on.
	Holders []holders.Holding `json:"holders"`
	// Omitted are accounts with more calls at that time than the record has.
	Omitted []string `json:"omitted,omitempty"`
	// Since is the time from which on the record is complete.
	Since time.Time `json:"since"`
}

// holdersQuery returns the query in the parameters of a request: port, time, and optionally address and within.
func holdersQuery(values url.Values) (q holders.Query, err error) {
	for name := range values {
		if !slices.Contains([]string{"port", "time", "address", "within"}, name) {
			return q, control.Errorf(http.StatusBadRequest, "there is no parameter %q", name)
		}
	}
	port, err := strconv.ParseUint(values.Get("port"), 10, 16)
	if err != nil || port == 0 {
		return q, control.Errorf(http.StatusBadRequest, "port %q: want a number from 1 to 65535", values.Get("port"))
	}
	q.Port = uint16(port)
	if q.At, err = time.Parse(time.RFC3339, values.Get("time")); err != nil {
		return q, control.Errorf(http.StatusBadRequest, "time %q: want one such as 2026-11-30T14:05:00Z", values.Get("time"))
	}
	if text := values.Get("address"); text != "" {
		if q.Addr, err = netip.ParseAddr(text); err != nil {
			return q, control.Errorf(http.StatusBadRequest, "address %q: want an IP address", text)
		}
	}
	q.Within, err = durationOf(values.Get("within"), time.Minute, maxWithin)
	return q, err
}

// holders answers GET /v1/holders.
func (o *operators) holders(_ http.ResponseWriter, r *http.Request) (any, error) {
	query, err := holdersQuery(r.URL.Query())
	if err != nil {
		return nil, err
	}
	var record *holders.Record
	if err := o.do(r.Context(), func() { record = o.service.record }); err != nil {
		return nil, err
	}
	// Calls that go on come first, so that one that ends meanwhile is not missed. It may then be in both.
	running, err := o.running(r)
	if err != nil {
		return nil, err
	}
	answer := record.Find(query)
	if !answer.On {
		return nil, control.Errorf(http.StatusConflict, "nothing is recorded: set record in the control block of the configuration")
	}
	report := holdersReport{Holders: append([]holders.Holding{}, answer.Holdings...), Omitted: answer.Omitted, Since: answer.Since}
	for _, h := range running {
		both := slices.ContainsFunc(report.Holders, func(ended holders.Holding) bool { return ended.Relayed == h.Relayed && ended.From.Equal(h.From) })
		if query.Matches(h) && !both {
			report.Holders = append(report.Holders, h)
		}
	}
	o.logger.Info("record of calls was read", "by", control.CallerOf(r.Context()).String(), "port", query.Port, "at", query.At, "within", query.Within,
		"count", len(report.Holders))
	return report, nil
}

// running returns the holdings that go on.
func (o *operators) running(r *http.Request) (running []holders.Holding, err error) {
	relays, err := o.relays()
	if err != nil {
		return nil, err
	}
	for _, relay := range relays {
		allocations, err := relay.Sessions(r.Context())
		if err != nil {
			return nil, err
		}
		for _, a := range allocations {
			running = append(running, o.service.masked(holders.Of(relay.name, a)))
		}
	}
	return running, nil
}
