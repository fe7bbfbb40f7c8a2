// Package probe finds out whether a call would connect, and if not, why: it resolves the names, asks the IMAP server as
// Delta Chat core does, reads the answer as core reads it, relays through every address over every transport, and tries
// what a relay must refuse. It prints nothing; a Report is data, and WriteText one way to show it.
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

// Depth is how much is tried.
type Depth int

const (
	Normal   Depth = iota
	Quick          // UDP only, as clients do, few packets, and nothing that a relay must refuse
	Thorough       // ten times the packets and patience for slow links
)

// packets is how many packets each echo sends.
func (d Depth) packets() int { return [...]int{Normal: 20, Quick: 5, Thorough: 200}[d] }

// patience is how long one answer may take.
func (d Depth) patience() time.Duration {
	return [...]time.Duration{Normal: 5 * time.Second, Quick: 3 * time.Second, Thorough: 10 * time.Second}[d]
}

// Options are what Run needs to know.
type Options struct {
	Target   Target
	Resolver *resolver.Resolver
	// Roots are trusted in place of the system's, unless nil.
	Roots *x509.CertPool
	// Password is of the IMAP account, or of Username at the TURN server.
	Password string
	// Token, if not empty, is an OAuth 2.0 access token for the IMAP account, to log in with in place of Password.
	Token    string
	Username string
	// Secret, if not zero, is the secret of the TURN REST API: credentials are issued from it, an expired one as well.
	Secret credential.Secret
	Depth  Depth
	// Kernel has the settings of this machine's kernel; nil for sysctl.System.
	Kernel fs.FS
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Progress, if not nil, is told what is being done, in a few words. It is called on several goroutines.
	Progress func(what string)
}

// secretTTL is how long the credentials are good that are issued from Options.Secret.
const secretTTL = 24 * time.Hour

// run is one probe under way.
type run struct {
	Options
	report *Report
	// value is what the target or its IMAP server told.
	value discovery.Value
	addrs []netip.Addr // of its host
	// transports are tried at its port.
	transports []Transport
	// tlsPort is where TLS is tried, from the entry for it; 0 for nowhere.
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
			show(printable(what)) // the relay's name is what a server says
		}
	}
	return &run{Options: o, report: &Report{SchemaVersion: SchemaVersion, Target: o.Target.String(), Started: o.Now().UTC()}}
}

// Run probes the target. It always returns a report; ctx ends it early, with what was found so far.
func Run(ctx context.Context, o Options) *Report {
	r := newRun(o)
	start := time.Now()
	if r.discover(ctx) {
		r.relays(ctx)
	}
	r.judgeForm()
	r.judgeMachine()
	r.report.DurationMS = milliseconds(time.Since(start))
	r.report.Verdict = r.report.judge()
	return r.report
}

// discover finds out what a client would use. It reports whether there is a relay to try.
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
