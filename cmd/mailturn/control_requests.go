package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mailturn/mailturn/framework/control"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/turnsrv"
)

// statusReport is the response to GET /v1/status.
type statusReport struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// State is "serving", "draining" or "stopping".
	State string `json:"state"`
	// Loaded is when the configuration in force was loaded.
	Loaded time.Time `json:"loaded"`
	// ReloadError is why the last reload has changed nothing. It is empty if it has, or there was none.
	ReloadError string `json:"reload_error,omitempty"`
	// Problem is what keeps endpoints from serving. It is empty if nothing does.
	Problem   string           `json:"problem,omitempty"`
	Endpoints []endpointReport `json:"endpoints"`
}

// endpointReport is one endpoint in a statusReport.
type endpointReport struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// LogLevel is set while the endpoint has another log level than the configuration says.
	LogLevel *temporaryLevel `json:"log_level,omitempty"`
	// Relay is set for a TURN endpoint with mailturn's own engine.
	Relay *relayReport `json:"relay,omitempty"`
}

type temporaryLevel struct {
	Level string    `json:"level"`
	Until time.Time `json:"until"`
}

// relayReport is what a TURN endpoint does now, and what it has relayed since it was started: bytes of payload.
type relayReport struct {
	Allocations     int    `json:"allocations"`
	ToPeerBytes     uint64 `json:"to_peer_bytes"`
	ToPeerPackets   uint64 `json:"to_peer_packets"`
	ToClientBytes   uint64 `json:"to_client_bytes"`
	ToClientPackets uint64 `json:"to_client_packets"`
	// KernelPath says whether the kernel can relay packets, KernelChannels how many channels it relays now, and KernelProblem why it
	// cannot although it should.
	KernelPath     bool   `json:"kernel_path"`
	KernelChannels int    `json:"kernel_channels"`
	KernelProblem  string `json:"kernel_problem,omitempty"`
}

// reportRelay returns what a TURN endpoint does, or nil if it has not started.
func reportRelay(relay countingRelay) *relayReport {
	c, ok := relay.Counters()
	if !ok {
		return nil
	}
	report := &relayReport{
		Allocations: c.Allocations, ToPeerBytes: c.ToPeer.Bytes, ToPeerPackets: c.ToPeer.Packets,
		ToClientBytes: c.ToClient.Bytes, ToClientPackets: c.ToClient.Packets,
		KernelChannels: c.Kernel.Channels,
	}
	used, problem := relay.KernelPath()
	if report.KernelPath = used; problem != nil {
		report.KernelProblem = problem.Error()
	}
	return report
}

// countingRelay is a TURN endpoint in this process.
type countingRelay interface {
	Counters() (turnsrv.Counters, bool)
	KernelPath() (used bool, problem error)
}

// status answers GET /v1/status.
func (o *operators) status(_ http.ResponseWriter, r *http.Request) (any, error) {
	report := statusReport{Version: buildInfo().Main.Version, PID: os.Getpid(), Started: o.started, State: "serving"}
	err := o.do(r.Context(), func() {
		running := o.service
		switch {
		case running.stopping:
			report.State = "stopping"
		case running.draining.Load():
			report.State = "draining"
		}
		report.Loaded = running.loaded
		switch {
		case errors.Is(running.stale, errReported):
			report.ReloadError = "it has errors, see the log"
		case running.stale != nil:
			report.ReloadError = running.stale.Error()
		}
		for _, p := range running.setup.parts() {
			e := endpointReport{Kind: p.Kind(), Name: p.Name()}
			if level, until, set := running.levels[p.String()].Level(); set {
				e.LogLevel = &temporaryLevel{strings.ToLower(level.String()), until}
			}
			if relay, ok := running.running[p.String()].(countingRelay); ok {
				e.Relay = reportRelay(relay)
			}
			report.Endpoints = append(report.Endpoints, e)
		}
	})
	if err != nil {
		return nil, err
	}
	if report.State != "stopping" {
		if problem := o.service.health(); problem != nil {
			report.Problem = problem.Error()
		}
	}
	return report, nil
}

// reloadReport is the response to POST /v1/reload.
type reloadReport struct {
	Endpoints []string `json:"endpoints"`
	// Applied are the attributes and blocks of the file that have changed, by name: empty if none has.
	Applied []string `json:"applied"`
	// Upgraded is set if the program was replaced, and another process serves.
	Upgraded *handedOver `json:"upgraded,omitempty"`
	// Output are the warnings of the configuration, for people. It may be empty.
	Output string `json:"output"`
}

// reload answers POST /v1/reload, and does as SIGHUP does. A configuration that cannot be loaded is an error with everything that is
// wrong with it.
func (o *operators) reload(_ http.ResponseWriter, r *http.Request) (any, error) {
	if o.reloadService == nil {
		return nil, control.Errorf(http.StatusConflict, "nothing to reload: this mailturn runs without a configuration file")
	}
	var report reloadReport
	if o.upgradeService != nil && programReplaced() {
		o.changed(r, "reload requested, after the program was replaced")
		done, err := o.upgradeNow(r.Context())
		if err != nil {
			return nil, err
		}
		report.Endpoints, report.Applied, report.Upgraded = []string{}, []string{}, &done
		return report, nil
	}
	var output bytes.Buffer
	var failure error
	err := o.do(r.Context(), func() {
		if o.service.stopping {
			failure = control.Errorf(http.StatusServiceUnavailable, "mailturn is stopping")
			return
		}
		o.changed(r, "reload requested")
		report.Applied, failure = o.reloadService(&output)
		for _, p := range o.service.setup.parts() {
			report.Endpoints = append(report.Endpoints, p.String())
		}
	})
	report.Output = output.String()
	switch {
	case err != nil:
		return nil, err
	case errors.Is(failure, errReported):
		return nil, control.Errorf(http.StatusConflict, "the configuration has errors, the old one stays in force\n%s", strings.TrimSpace(report.Output))
	case failure != nil:
		if e, ok := errors.AsType[*control.Error](failure); ok {
			return nil, e
		}
		text := fmt.Sprintf("the old configuration stays in force: %v", failure)
		if len(report.Applied) > 0 {
			text += "\nNot applied:\n  " + strings.Join(report.Applied, "\n  ")
		}
		return nil, control.Errorf(http.StatusConflict, "%s", text)
	}
	report.Applied = append([]string{}, report.Applied...) // not null
	return report, nil
}

// logLevelRequest is the body of PUT /v1/log-level.
type logLevelRequest struct {
	// Endpoint is the kind or the name of endpoints, or both: "turn", or "turn turn". Empty means all.
	Endpoint string `json:"endpoint"`
	// Level is debug, info, warn or error, or "default" for that of the configuration.
	Level string `json:"level"`
	// For is a Go duration of at most a day, by default ten minutes.
	For string `json:"for"`
}

// logLevelReport is the response to PUT /v1/log-level.
type logLevelReport struct {
	Endpoints []string  `json:"endpoints"`
	Level     string    `json:"level"`
	Until     time.Time `json:"until,omitzero"`
}

const (
	defaultLogLevelTime = 10 * time.Minute
	maxLogLevelTime     = 24 * time.Hour
)

// setLogLevel answers PUT /v1/log-level.
func (o *operators) setLogLevel(w http.ResponseWriter, r *http.Request) (any, error) {
	var request logLevelRequest
	if err := control.Read(w, r, &request); err != nil {
		return nil, err
	}
	d, err := durationOf(request.For, defaultLogLevelTime, maxLogLevelTime)
	if err != nil {
		return nil, err
	}
	level, err := log.Level(request.Level)
	reset := request.Level == "default"
	if !reset && (err != nil || request.Level == "") {
		return nil, control.Errorf(http.StatusBadRequest, "log level %q: want debug, info, warn, error or default", request.Level)
	}
	report := logLevelReport{Level: request.Level}
	if !reset {
		report.Until = time.Now().Add(d)
	}
	err = o.do(r.Context(), func() {
		for _, p := range o.service.setup.parts() {
			kind, name := p.Kind(), p.Name()
			switch request.Endpoint {
			case "", kind, name, kind + " " + name:
			default:
				continue
			}
			report.Endpoints = append(report.Endpoints, p.String())
			if reset {
				o.service.levels[p.String()].Reset()
				continue
			}
			o.service.levels[p.String()].Set(level, d, func() {
				o.logger.Info("log level is that of the configuration again", "kind", kind, "endpoint", name)
			})
		}
	})
	switch {
	case err != nil:
		return nil, err
	case len(report.Endpoints) == 0:
		return nil, control.Errorf(http.StatusNotFound, "there is no endpoint %q", request.Endpoint)
	}
	o.changed(r, "log level changed", "level", request.Level, "duration", d, "endpoints", strings.Join(report.Endpoints, ", "))
	return report, nil
}

// durationOf parses a duration. An empty text means otherwise.
func durationOf(text string, otherwise, most time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > most {
		return 0, control.Errorf(http.StatusBadRequest, "duration %q: want one of at most %v, such as 90s, 10m or 24h", text, most)
	}
	return d, nil
}

// drainRequest is the body of PUT /v1/draining.
type drainRequest struct {
	Draining *bool `json:"draining"`
}

// drainReport is the response to PUT /v1/draining.
type drainReport struct {
	Draining    bool `json:"draining"`
	Allocations int  `json:"allocations"`
}

// setDraining answers PUT /v1/draining.
func (o *operators) setDraining(w http.ResponseWriter, r *http.Request) (any, error) {
	var request drainRequest
	if err := control.Read(w, r, &request); err != nil {
		return nil, err
	}
	if request.Draining == nil {
		return nil, control.Errorf(http.StatusBadRequest, `want {"draining": true} or {"draining": false}`)
	}
	relays, err := o.relays()
	if err != nil {
		return nil, err
	}
	report := drainReport{Draining: *request.Draining}
	if err := o.do(r.Context(), func() { o.service.setDraining(report.Draining) }); err != nil { // not during an upgrade: see inTurn
		return nil, err
	}
	for _, relay := range relays {
		if c, ok := relay.Counters(); ok {
			report.Allocations += c.Allocations
		}
	}
	o.changed(r, "draining changed", "draining", report.Draining, "allocations", report.Allocations)
	return report, nil
}

// credentialRequest is the body of POST /v1/credentials. Without an account, the credential is for somebody unknown.
type credentialRequest struct {
	Account string `json:"account"`
}

// issueCredential answers POST /v1/credentials as the endpoints issue: the relay of this process knows the account.
func (o *operators) issueCredential(w http.ResponseWriter, r *http.Request) (any, error) {
	var request credentialRequest
	if err := control.Read(w, r, &request); err != nil {
		return nil, err
	}
	var report credentialReport
	var failure error
	err := o.do(r.Context(), func() {
		first, err := o.service.setup.firstAdvertised()
		if err != nil {
			failure = control.Errorf(http.StatusConflict, "%v", err)
			return
		}
		advertised := first.For(request.Account)
		advertised.Accounts, advertised.Names = &o.service.accounts, o.service.setup.names // also without another endpoint
		advertised.Ring = o.service.member.keeper.Ring()
		report = reportCredential(advertised, advertised.IssueTo(request.Account, time.Now()))
	})
	if err = errors.Join(err, failure); err != nil {
		return nil, err
	}
	o.changed(r, "credential issued", "account", request.Account, "username", report.Username, "expires", report.Expires)
	return report, nil
}
