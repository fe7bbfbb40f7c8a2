package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/mailturn/mailturn/imapext/discovery"
	"github.com/mailturn/mailturn/imapext/metadata"
)

// fallbackAction is what to do if clients do not get a value.
const fallbackAction = "Put mailturn in front of this server, or let the server answer GETMETADATA for " + discovery.TURNEntry + " (docs/imap.md)."

// askIMAP runs the same IMAP session as core, and reports whether it got a value.
func (r *run) askIMAP(ctx context.Context) bool {
	t, report := r.Target, r.report
	addrs := r.lookUp(ctx, "imap.dns", t.Host)
	if addrs == nil {
		return false
	}
	c, ok := r.connectIMAP(ctx, addrs)
	if !ok {
		return false
	}
	defer c.Close()

	r.Progress("logging in to " + t.Host)
	ctx, cancel := context.WithTimeout(ctx, 6*r.Depth.patience())
	defer cancel()
	before, err := c.Capabilities(ctx)
	if status, refused := errors.AsType[*discovery.StatusError](err); err != nil && !errors.Is(err, discovery.ErrUnparsable) && (!refused || status.Status == "BYE") {
		return r.imapFailed("imap.capabilities", err) // core ignores the others: it looks at those after login
	}
	after, ok := r.logIn(ctx, c, before)
	if !ok {
		return false
	}
	if !discovery.Has(after, "METADATA") {
		report.Fallback = true
		return report.add("imap.capabilities", "", Failure,
			"the server does not offer METADATA after login, so clients will use the public server turn.delta.chat for 7 days.", fallbackAction)
	}
	if discovery.Has(after, "COMPRESS=DEFLATE") {
		if err := c.Compress(ctx); err != nil {
			return report.add("imap.compress", "", Failure, fmt.Sprintf("the server offers COMPRESS=DEFLATE, but compression fails (%v): core cannot use the server at all.", err),
				"Remove COMPRESS=DEFLATE from the capabilities.")
		}
		report.IMAP.Compressed = true
	}
	return r.getMetadata(ctx, c)
}

// logIn logs in and returns the capabilities after login.
func (r *run) logIn(ctx context.Context, c *discovery.Client, offered []string) (capabilities []string, ok bool) {
	t, report := r.Target, r.report
	report.IMAP.CapabilitiesBefore = offered
	credentials := discovery.Credentials{Username: t.Username, Password: r.Password, Token: r.Token}
	mechanism, err := credentials.Mechanism(offered)
	if err == nil {
		report.IMAP.Mechanism = mechanism
		capabilities, err = c.LogIn(ctx, credentials)
	}
	status, refused := errors.AsType[*discovery.StatusError](err)
	missing, lacks := errors.AsType[*discovery.MechanismError](err)
	switch {
	case lacks && r.Token != "":
		return nil, report.add("imap.login", t.Username, Failure, fmt.Sprintf("%s does not let anybody log in with a token: %v.", t.Host, missing),
			"Enable OAUTHBEARER or XOAUTH2 on the server, or probe with a password.")
	case lacks:
		return nil, report.add("imap.login", t.Username, Failure, fmt.Sprintf("%s disables LOGIN, and %s.", t.Host, strings.TrimPrefix(missing.Error(), "the server ")),
			"Let the server accept LOGIN over TLS, which Delta Chat uses; or probe with a token, --token-file.")
	case refused:
		credential := "password"
		if r.Token != "" {
			credential = "token, which may have expired or lack the scope for IMAP"
		}
		return nil, report.add("imap.login", t.Username, Failure, fmt.Sprintf("the server refuses the login of %s by %s: %s %s.", t.Username, mechanism, status.Status, printable(status.Text)),
			"Check the user name, with its domain if the server wants it, and the "+credential+".")
	case err != nil:
		return nil, r.imapFailed("imap.capabilities", err)
	}
	report.IMAP.CapabilitiesAfter = capabilities
	switch mechanism {
	case "LOGIN":
		report.add("imap.login", t.Username, OK, "Logged in as "+t.Username+".", "")
	case "PLAIN": // the rest can still be examined
		report.add("imap.login", t.Username, Failure,
			"users get no mail: the server disables LOGIN, and Delta Chat has no other way to log in with a password.", "Let the server accept LOGIN over TLS.")
	default:
		report.add("imap.login", t.Username, OK, fmt.Sprintf("Logged in as %s with a token, by %s.", t.Username, mechanism), "")
	}
	return capabilities, true
}

// connectIMAP connects with the target's kind of TLS, and reads the greeting.
func (r *run) connectIMAP(ctx context.Context, addrs []netip.Addr) (*discovery.Client, bool) {
	t, report := r.Target, r.report
	hostPort := net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	r.Progress("connecting to " + hostPort)
	conn, took, err := r.dial(ctx, addrs, t.Port)
	if err != nil {
		return nil, report.add("imap.connect", hostPort, Failure, fmt.Sprintf("cannot connect to %s: %s.", hostPort, networkReason(err)),
			"Check that the IMAP server is running and listening on that port, and that the firewall lets TCP through.")
	}
	report.IMAP = &Session{Address: conn.RemoteAddr().String(), ConnectMS: milliseconds(took)}
	ctx, cancel := context.WithTimeout(ctx, 2*r.Depth.patience())
	defer cancel()
	config := discovery.TLSConfig(nil, t.Host, t.Port, t.Security)
	if t.Security == discovery.ImplicitTLS {
		secure, ok := r.secureIMAP(ctx, conn, config)
		if !ok {
			conn.Close()
			return nil, false
		}
		conn = secure
	}
	c, err := discovery.NewClient(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, r.imapFailed("imap.connect", err)
	}
	report.IMAP.Greeting = printable(c.Greeting())
	report.add("imap.connect", hostPort, OK, fmt.Sprintf("%s answers in %s.", report.IMAP.Address, ms(report.IMAP.ConnectMS)), "")
	if t.Security != discovery.StartTLS {
		return c, true
	}
	// handshake verifies the certificate, so that it can be shown.
	var verified error
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		verified = r.verify(state, t.Host)
		return nil
	}
	state, err := c.StartTLS(ctx, config)
	if status, refused := errors.AsType[*discovery.StatusError](err); refused {
		loopback := netip.MustParseAddrPort(report.IMAP.Address).Addr().Unmap().IsLoopback()
		if loopback {
			report.add("imap.tls", t.Host, Note, "No TLS; the server is on this machine.", "")
			return c, true
		}
		c.Close()
		return nil, report.add("imap.tls", t.Host, Failure, fmt.Sprintf("the server does not support STARTTLS (%s), and probe does not send the password in the clear.", printable(status.Text)),
			"Give the server a certificate, or use IMAP over TLS: imaps://.")
	} else if err != nil {
		c.Close()
		return nil, r.imapFailed("imap.tls", err)
	}
	report.IMAP.TLS = describe(state, verified)
	if !r.judgeTLS("imap.tls", t.Host, report.IMAP.TLS, verified) {
		c.Close()
		return nil, false
	}
	return c, true
}

func (r *run) secureIMAP(ctx context.Context, conn net.Conn, config *tls.Config) (net.Conn, bool) {
	secure, certificate, err := r.handshake(ctx, conn, config)
	r.report.IMAP.TLS = certificate
	if !r.judgeTLS("imap.tls", r.Target.Host, certificate, err) {
		return nil, false
	}
	return secure, true
}

// judgeTLS adds the check of a certificate.
func (r *run) judgeTLS(id, host string, c *Certificate, err error) bool {
	if err != nil {
		summary, action := tlsProblem(err, c, host, r.Now())
		return r.report.add(id, host, Failure, summary, action)
	}
	status, summary, action := tlsSummary(c, r.Now())
	return r.report.add(id, host, status, summary, action)
}

// getMetadata asks for the same entries as core, and for one that no client reads yet.
func (r *run) getMetadata(ctx context.Context, c *discovery.Client) bool {
	r.Progress("asking " + r.Target.Host + " for its relay")
	report := r.report
	c.Raw = func(response []byte) { report.IMAP.Metadata = append(report.IMAP.Metadata, redact(response)) }
	entries, err := c.GetMetadata(ctx, discovery.Entries())
	if status, refused := errors.AsType[*discovery.StatusError](err); refused && status.Status != "BYE" {
		report.Fallback = true
		return report.add("imap.metadata", "", Failure, fmt.Sprintf("the server answers GETMETADATA with %s %s, so clients will use the public server turn.delta.chat for 7 days.", status.Status, printable(status.Text)),
			"Check the server's log and its METADATA storage: it offers METADATA, so it has to answer for "+discovery.TURNEntry+".")
	}
	if err != nil {
		return r.imapFailed("imap.metadata", err)
	}
	decision := discovery.Decide(entries, r.Now())
	if decision.Fallback {
		report.Fallback = true
		if errors.Is(decision.Reason, discovery.ErrBadValue) {
			return report.add("value.parse", "", Failure, valueProblem(decision.Reason)+", so clients will use the public server turn.delta.chat for 7 days.", valueAction(decision.Reason))
		}
		return report.add("imap.metadata", "", Failure, "the server has no value for "+discovery.TURNEntry+", so clients will use the public server turn.delta.chat for 7 days.", fallbackAction)
	}
	report.add("imap.metadata", "", OK, "GETMETADATA has a value that Delta Chat can read.", "")
	r.value, r.transports = decision.Value, []Transport{UDP, TCP}
	report.IMAP.ExpiresUnix = r.value.Expires.Unix()
	more, err := c.GetMetadata(ctx, []string{discovery.TURNSEntry})
	if err == nil {
		r.takeTURNS(more)
	}
	_ = c.Logout(ctx)
	return true
}

// takeTURNS takes the port for TLS from the entry for future clients.
func (r *run) takeTURNS(entries []metadata.Entry) {
	for _, entry := range entries {
		value, err := discovery.ParseValue(entry.Value.Octets())
		switch {
		case entry.Name != discovery.TURNSEntry || err != nil:
		case value.Hostname != r.value.Hostname:
			r.report.add("turn.tls", value.Hostname, Skipped, fmt.Sprintf("%s names another host, %s, which was not tried.", discovery.TURNSEntry, value.Hostname), "")
			r.report.notTested(fmt.Sprintf("TURN over TLS at %s, another host", value.Hostname))
		default:
			r.tlsPort = value.Port
		}
	}
}

// imapFailed adds a failure that stops core, so that the user gets no mail.
func (r *run) imapFailed(id string, err error) bool {
	if errors.Is(err, discovery.ErrUnparsable) {
		return r.report.add(id, "", Failure, fmt.Sprintf("users get no mail: core cannot parse the server's answer and drops the connection each time (%v).", err),
			"Make the server send the value as a quoted string without 8-bit characters, and no entries below /shared other than comment, admin and vendor.")
	}
	return r.report.add(id, r.Target.Host, Failure, fmt.Sprintf("the IMAP session was cut off: %s.", plainly(err)), "Check the server's log, and that the port speaks IMAP with the security that the URL says.")
}

// redact removes the passwords from a response: the text after the third colon of a value.
func redact(response []byte) string {
	text := string(response)
	_, entries, err := discovery.ParseMetadata(response)
	if err != nil {
		return "(a response that does not parse, not shown because it may hold a password)"
	}
	for _, entry := range entries {
		value := entry.Value.Octets()
		if parts := strings.SplitN(value, ":", 4); len(parts) == 4 && parts[3] != "" {
			text = strings.ReplaceAll(text, value, strings.Join(parts[:3], ":")+":[redacted]")
		}
	}
	return printable(strings.TrimRight(text, "\r\n"))
}

// printable makes a server's text safe for terminals: it escapes control characters, and limits the length.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	quoted := strconv.Quote(s)
	quoted = strings.ReplaceAll(strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`), `\\`, `\`)
	if runes := []rune(quoted); len(runes) > 1000 {
		quoted = string(runes[:1000]) + "…"
	}
	return quoted
}

func valueProblem(err error) string {
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

func valueAction(err error) string {
	switch {
	case errors.Is(err, discovery.ErrPort):
		return "Write HOST:PORT:EXPIRY:PASSWORD. An IPv6 address cannot be used there: give it a name with an AAAA record."
	case errors.Is(err, discovery.ErrTimestamp):
		return "Write HOST:PORT:EXPIRY:PASSWORD, where EXPIRY is the user name and a bare number of seconds."
	default:
		return "Write HOST:PORT:EXPIRY:PASSWORD."
	}
}
