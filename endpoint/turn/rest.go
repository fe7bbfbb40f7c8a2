package turn

import (
	"context"
	"log/slog"
	"net/url"
	"path/filepath"
	"time"

	"github.com/mailturn/mailturn/endpoint/turn/portfile"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// minRest is how long a port of an earlier process is not used again even if no other is free. The peers of calls stop sending after
// 30 seconds without an answer, RFC 7675 section 5.1.
const minRest = time.Minute

// portFile returns the path of the file of the ports in use.
func (c *Config) portFile() string {
	return filepath.Join(c.StateDir, "ports-"+url.PathEscape(c.Name))
}

// restOf returns the ports that rest while the process before still serves, which uses others of them.
func (e *Endpoint) restOf(now time.Time) relay.Rest {
	if e.config.StateDir == "" {
		return relay.Rest{}
	}
	past, err := portfile.Read(e.config.portFile())
	if err != nil {
		return relay.Rest{} // followPorts says so
	}
	return relay.Rest{Ports: past.Ports, Until: now.Add(e.config.MaxLifetime.V), Never: now}
}

// openPorts opens the file of the ports in use, and returns the ports that peers may still send to after an earlier process has ended.
// It logs how long calls were interrupted.
func (e *Endpoint) openPorts(now time.Time) (*portfile.File, relay.Rest) {
	if e.config.StateDir == "" {
		return nil, relay.Rest{}
	}
	ports, past, err := portfile.Open(e.config.portFile(), now, e.logger)
	switch {
	case ports == nil:
		e.logger.Warn("relayed ports are not recorded: after a crash, they may be used again too soon", "err", err)
	case err != nil:
		e.logger.Warn("the record of relayed ports was refused: those of the last process may be used again too soon", "err", err)
	}
	if len(past.Ports) == 0 {
		return ports, relay.Rest{}
	}
	// The time since then, by a clock that may have been wrong or reset since: at least none, and at most all.
	away := min(max(now.Round(0).Sub(past.Ended), 0), e.config.MaxLifetime.V)
	rest := relay.Rest{Ports: past.Ports, Until: now.Add(e.config.MaxLifetime.V - away), Never: now.Add(max(minRest-away, 0))}
	if past.Cut > 0 {
		level, cause := slog.LevelWarn, "crash"
		if past.Stopped {
			level, cause = slog.LevelInfo, "stop"
		}
		e.logger.Log(context.Background(), level, "calls were interrupted", "cause", cause, "allocations", past.Cut, "ended", past.Ended.UTC().Truncate(time.Second),
			"interruption", now.Round(0).Sub(past.Ended).Round(100*time.Millisecond), "ports_rest_for", (e.config.MaxLifetime.V - away).Round(time.Second))
	}
	return ports, rest
}
