package e2e

import (
	"context"
	"testing"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/deltachat"
)

// useful checks that a user who has just been configured gets mail and knows the relay.
func (u *user) useful(t *testing.T, other *user) {
	t.Helper()
	withOther, withUser := befriend(t, u, other)
	u.say(t, withOther, "to "+other.name, other)
	other.say(t, withUser, "to "+u.name, u)
	u.host.wantAccepted(t, u.relay(t))
	if !u.Happened(0, logged("Enabling IMAP compression")) {
		t.Errorf("%s did not ask for COMPRESS", u.name)
	}
}

// TestDeltaChatTransports reaches mailturn in the ways that TestDeltaChat does not. On other ports than 993 Delta Chat asks
// for the application protocol imap (ALPN).
func TestDeltaChatTransports(t *testing.T) {
	t.Parallel()
	m := newMailHost(t)
	m.serve(t, mailName, "", "")
	alice := m.newDeltaChat(t, "alice")
	alice.configure(t)
	for _, tt := range []struct {
		name, user string
		edit       func(*deltachat.Transport)
	}{
		{"TLS with ALPN", "bob", func(d *deltachat.Transport) { d.IMAPPort = 9993 }},
		{"STARTTLS", "carol", func(d *deltachat.Transport) { d.IMAPPort, d.IMAPSecurity = 143, deltachat.StartTLS }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := m.newDeltaChat(t, tt.user)
			u.configure(t, tt.edit)
			u.useful(t, alice)
		})
	}
}

// TestDeltaChatCertificates uses a self-signed certificate for a name for which Delta Chat makes no exception.
func TestDeltaChatCertificates(t *testing.T) {
	t.Parallel()
	m := newMailHost(t)
	m.serve(t, plainName, "", "")
	alice := m.newDeltaChat(t, "alice")
	for _, tt := range []struct {
		name, host, reason string
	}{
		{"strict", plainName, "UnknownIssuer"},
		{"strict about the name", mailName, "not valid for name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, reach := range []struct {
				security string
				port     int
			}{{deltachat.TLS, 993}, {deltachat.StartTLS, 143}} {
				t.Run(reach.security, func(t *testing.T) {
					transport := alice.transport(t)
					transport.IMAPServer, transport.IMAPPort, transport.IMAPSecurity = tt.host, reach.port, reach.security
					before := alice.Core().Now()
					if err := alice.try(t, func(ctx context.Context) error { return alice.AddTransport(ctx, transport) }); err == nil {
						t.Error("Delta Chat trusts the certificate")
					}
					alice.wait(t, before, "the reason", logged(tt.reason))
				})
			}
		})
	}

	unchecked := func(d *deltachat.Transport) {
		d.IMAPServer, d.CertificateChecks = plainName, deltachat.AcceptInvalid
	}
	alice.configure(t, unchecked)
	t.Run("unchecked, STARTTLS", func(t *testing.T) {
		bob := m.newDeltaChat(t, "bob")
		bob.configure(t, unchecked, func(d *deltachat.Transport) { d.IMAPPort, d.IMAPSecurity = 143, deltachat.StartTLS })
		bob.useful(t, alice)
	})
	t.Run("unchecked", func(t *testing.T) { alice.host.wantAccepted(t, alice.relay(t)) })
}
