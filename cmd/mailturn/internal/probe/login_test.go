package probe

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/imapext/discovery"
)

// serveLogin runs an IMAP server that announces capabilities and answers each login with the tagged response answer.
func serveLogin(t *testing.T, capabilities, answer string) *discovery.Client {
	t.Helper()
	conn, server := net.Pipe()
	go func() {
		defer server.Close()
		fmt.Fprintf(server, "* OK [CAPABILITY IMAP4rev1 %s] ready\r\n", capabilities)
		for lines := bufio.NewScanner(server); lines.Scan(); {
			tag, _, _ := strings.Cut(lines.Text(), " ")
			fmt.Fprintf(server, "%s %s\r\n", tag, answer)
		}
	}()
	c, err := discovery.NewClient(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestLogIn checks the report about each outcome of a login, and that it contains no secret.
func TestLogIn(t *testing.T) {
	const in = "OK [CAPABILITY IMAP4rev1 METADATA] in"
	for _, tt := range []struct {
		name                 string
		token                string
		capabilities, answer string
		status               Status
		goesOn               bool
		summary, action      string
	}{
		{"password", "", "AUTH=PLAIN SASL-IR", in, OK, true, "Logged in as alice.", ""},
		{"token by OAUTHBEARER", "t0ken", "AUTH=XOAUTH2 AUTH=OAUTHBEARER SASL-IR", in, OK, true, "with a token, by OAUTHBEARER", ""},
		{"token by XOAUTH2", "t0ken", "LOGINDISABLED AUTH=XOAUTH2 SASL-IR", in, OK, true, "with a token, by XOAUTH2", ""},
		{"only PLAIN", "", "LOGINDISABLED AUTH=PLAIN SASL-IR", in, Failure, true, "users get no mail: the server disables LOGIN", "accept LOGIN"},
		{"no mechanism for a password", "", "LOGINDISABLED AUTH=XOAUTH2", in, Failure, false, "mail.test disables LOGIN, and offers XOAUTH2: want PLAIN", "--token-file"},
		{"no mechanism for a token", "t0ken", "AUTH=PLAIN AUTH=LOGIN", in, Failure, false, "mail.test does not let anybody log in with a token: the server offers PLAIN, LOGIN: want OAUTHBEARER or XOAUTH2", "Enable OAUTHBEARER"},
		{"wrong password", "", "AUTH=PLAIN", "NO [AUTHENTICATIONFAILED] wrong", Failure, false, "refuses the login of alice by LOGIN: NO [AUTHENTICATIONFAILED] wrong", "and the password"},
		{"wrong token", "t0ken", "AUTH=XOAUTH2 SASL-IR", "NO wrong", Failure, false, "refuses the login of alice by XOAUTH2: NO wrong", "may have expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRun(Options{Target: Target{Host: "mail.test", Username: "alice"}, Password: "hunter2", Token: tt.token})
			r.report.IMAP = new(Session)
			c := serveLogin(t, tt.capabilities, tt.answer)
			offered, err := c.Capabilities(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, goesOn := r.logIn(t.Context(), c, offered)
			if len(r.report.Checks) != 1 {
				t.Fatalf("got the checks %+v", r.report.Checks)
			}
			got := r.report.Checks[0]
			if goesOn != tt.goesOn || got.Status != tt.status || !strings.Contains(got.Summary, tt.summary) || !strings.Contains(got.Action, tt.action) {
				t.Errorf("goes on: %v, with %+v", goesOn, got)
			}
			if text := fmt.Sprint(r.report.Checks, r.report.IMAP); strings.Contains(text, "t0ken") || strings.Contains(text, "hunter2") {
				t.Errorf("a secret is in the report: %s", text)
			}
		})
	}
}
