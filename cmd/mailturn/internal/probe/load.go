package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/load"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// LoadOptions describes the load that Load puts on a relay, as in load.Config.
type LoadOptions struct {
	Allocations, PPS, Size int
	Duration               time.Duration
	Progress               func(sent, received int64)
	// AnyTarget allows relays at addresses that are not local: see peer.Special.
	AnyTarget bool
}

func (l LoadOptions) config() load.Config {
	return load.Config{Allocations: l.Allocations, PPS: l.PPS, Size: l.Size, Duration: l.Duration, Progress: l.Progress}
}

// Check returns an error that says which limit a load exceeds.
func (l LoadOptions) Check() error { return l.config().Check() }

// LoadReport is the result of a load.
type LoadReport struct {
	SchemaVersion int       `json:"schema_version"`
	Target        string    `json:"target"`
	Address       string    `json:"address"`
	Transport     Transport `json:"transport"`
	Allocations   int       `json:"allocations"`
	SetupMS       float64   `json:"setup_ms"`
	ElapsedMS     float64   `json:"elapsed_ms"`
	PacketBytes   int       `json:"packet_bytes"`
	Sent          int64     `json:"sent"`
	Received      int64     `json:"received"`
	SendErrors    int64     `json:"send_errors"`
	Loss          float64   `json:"loss"` // 0 to 1
	SentPPS       float64   `json:"sent_pps"`
	ReceivedPPS   float64   `json:"received_pps"`
	ReceivedBPS   float64   `json:"received_bits_per_second"`
	RTT           *RTT      `json:"rtt,omitempty"` // nil when nothing came back
}

// RTT contains percentiles of the time to the other end and back, twice through the relay.
type RTT struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// ErrNotYours is returned for a target on the internet without LoadOptions.AnyTarget.
var ErrNotYours = errors.New("only loopback, private and other local addresses are loaded; for your own server elsewhere, add --i-own-this-server")

// Load finds the relay as Run does, without examining it, and puts a load on its first address over the transport that clients use.
// If it finds no relay, the error is nil, and the report says why.
func Load(ctx context.Context, o Options, l LoadOptions) (*LoadReport, *Report, error) {
	if err := l.Check(); err != nil {
		return nil, nil, err
	}
	r := newRun(o)
	if !r.discover(ctx) {
		r.report.Verdict = r.report.judge()
		return nil, r.report, nil
	}
	addr := r.addrs[0]
	if !isLocal(addr.Unmap()) && !l.AnyTarget {
		return nil, nil, fmt.Errorf("%v: %w", addr, ErrNotYours)
	}
	server := netip.AddrPortFrom(addr, r.value.Port)
	config := l.config()
	var users atomic.Uint64
	config.Connect = func(ctx context.Context) (*turnclient.Client, error) {
		username, password := r.value.Username, r.value.Password
		if !o.Secret.IsZero() { // one user per allocation, because relays have quotas per user
			user := fmt.Sprintf("%s-%d", cmp.Or(o.Username, "load"), users.Add(1))
			issued := credential.Issuer{Secret: o.Secret, TTL: secretTTL}.IssueFor(user, r.Now())
			username, password = issued.Username, issued.Password
		}
		c, _, err := r.connect(ctx, &attempt{addr: server, Relay: Relay{Transport: r.primary()}}, username, password)
		return c, err
	}
	r.Progress(fmt.Sprintf("making %d allocations", l.Allocations))
	result, err := load.Run(ctx, config)
	if turnclient.Code(err) == stun.CodeAllocationQuotaReached && o.Secret.IsZero() {
		err = fmt.Errorf("%w: ask for fewer allocations, raise the relay's quota for one user, or give its secret, with which each allocation gets its own user", err)
	}
	if err != nil {
		return nil, nil, err
	}
	seconds := result.Elapsed.Seconds()
	report := &LoadReport{
		SchemaVersion: SchemaVersion, Target: o.Target.String(), Address: server.String(), Transport: r.primary(),
		Allocations: result.Allocations, SetupMS: milliseconds(result.Setup), ElapsedMS: milliseconds(result.Elapsed), PacketBytes: result.Size,
		Sent: result.Sent, Received: result.Received, SendErrors: result.SendErrors, Loss: result.Loss(),
		SentPPS: float64(result.Sent) / seconds, ReceivedPPS: float64(result.Received) / seconds, ReceivedBPS: result.BitsPerSecond(),
	}
	if rtt := &result.RTT; rtt.Count() > 0 {
		report.RTT = &RTT{milliseconds(rtt.Percentile(50)), milliseconds(rtt.Percentile(90)), milliseconds(rtt.Percentile(99)), milliseconds(rtt.Max())}
	}
	return report, nil, nil
}
