// Package probe checks whether a call would connect, and if not, finds out why. It resolves the names, asks the IMAP server as
// Delta Chat core does, parses the answer as core does, relays through every address over every transport, and tries what a relay
// must refuse. It prints nothing: a Report is data, and WriteText is one way to show it.
package probe

import (
	"context"
	"crypto/x509"
	"io/fs"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/framework/resolver"
	"github.com/mailturn/mailturn/framework/sysctl"
	"github.com/mailturn/mailturn/imapext/discovery"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Depth says how much is tried.
type Depth int

const (
	Normal   Depth = iota
	Quick          // only UDP, as clients do, few packets, and nothing that a relay must refuse
	Thorough       // ten times as many packets, and patience with slow links
)

// packets returns how many packets each echo sends.
func (d Depth) packets() int { return [...]int{Normal: 20, Quick: 5, Thorough: 200}[d] }

// patience is how long one answer may take.
func (d Depth) patience() time.Duration {
	return [...]time.Duration{Normal: 5 * time.Second, Quick: 3 * time.Second, Thorough: 10 * time.Second}[d]
}

// Options configures Run.
type Options struct {
	Target   Target
	Resolver *resolver.Resolver
	// Roots, if not nil, are trusted instead of the system's.
	Roots *x509.CertPool
	// Password is that of the IMAP account, or of Username at the TURN server.
	Password string
	// Token, if not empty, is an OAuth 2.0 access token for the IMAP account, used for login instead of Password.
	Token    string
	Username string
	// Secret, if not zero, is the secret of the TURN REST API: Run issues credentials with it, including an expired one.
	Secret credential.Secret
	Depth  Depth
	// Kernel has the settings of this machine's kernel; nil for sysctl.System.
	Kernel fs.FS
	// KernelPaths, if not nil, asks the server on this machine about its TURN endpoints. It returns none if it may not or cannot.
	KernelPaths func(context.Context) []KernelPath
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Progress, if not nil, is called with a short description of each step. It is called on several goroutines.
	Progress func(what string)
}

// secretTTL is how long credentials issued with Options.Secret are valid.
const secretTTL = 24 * time.Hour

// run is the state of one probe.
type run struct {
	Options
	report *Report
	// value is that of the target or its IMAP server.
	value discovery.Value
	addrs []netip.Addr // of its host
	// transports are tried at its port.
	transports []Transport
	// tlsPort is the port for TLS, from the entry for it; 0 if there is none.
	tlsPort uint16
}

func newRun(o Options) *run {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Kernel == nil {
		o.Kernel = sysctl.System()
	}
	show := o.Progress
	o.Progress = func(what string) {
		if show != nil {
			show(printable(what)) // the relay's name comes from a server
		}
	}
	return &run{Options: o, report: &Report{SchemaVersion: SchemaVersion, Target: o.Target.String(), Started: o.Now().UTC()}}
}

// Run probes the target. It always returns a report; if ctx is done early, with the results so far.
func Run(ctx context.Context, o Options) *Report {
	r := newRun(o)
	start := time.Now()
	if r.discover(ctx) {
		r.relays(ctx)
	}
	r.judgeForm()
	r.judgeMachine(ctx)
	r.report.DurationMS = milliseconds(time.Since(start))
	r.report.Verdict = r.report.judge()
	return r.report
}

// discover finds the relay that a client would use. It reports whether there is one to try.
func (r *run) discover(ctx context.Context) bool {
	switch r.Target.Kind {
	case IMAP:
		return r.askIMAP(ctx) && r.resolveValue(ctx)
	case Line:
		return r.parseLine() && r.resolveValue(ctx)
	default:
		r.value = discovery.Value{Hostname: r.Target.Host, Port: r.Target.Port, Username: r.Username, Password: r.Password}
		if !r.Secret.IsZero() {
			issued := credential.Issuer{Secret: r.Secret, TTL: secretTTL}.IssueFor(r.Username, r.Now())
			r.value.Username, r.value.Password = issued.Username, issued.Password
		}
		r.transports = r.Target.Transports
		return r.resolveRelay(ctx)
	}
}
