package discovery

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestMechanism(t *testing.T) {
	password, token := Credentials{Username: "alice", Password: "pw"}, Credentials{Username: "alice", Password: "pw", Token: "t0ken"}
	for _, tt := range []struct {
		credentials  Credentials
		capabilities string
		want         string   // empty for an error
		offered      []string // of the error
	}{
		{password, "IMAP4rev1", "LOGIN", nil},
		{password, "IMAP4rev1 AUTH=PLAIN", "LOGIN", nil},
		{password, "", "LOGIN", nil},
		{password, "IMAP4rev1 LOGINDISABLED AUTH=PLAIN", "PLAIN", nil},
		{password, "IMAP4rev1 logindisabled auth=plain", "PLAIN", nil},
		{password, "IMAP4rev1 LOGINDISABLED AUTH=XOAUTH2", "", []string{"XOAUTH2"}},
		{password, "IMAP4rev1 LOGINDISABLED STARTTLS", "", nil},
		{token, "IMAP4rev1 AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=PLAIN", "OAUTHBEARER", nil},
		{token, "IMAP4rev1 AUTH=XOAUTH2", "XOAUTH2", nil},
		{token, "IMAP4rev1 LOGINDISABLED AUTH=xoauth2", "XOAUTH2", nil},
		{token, "IMAP4rev1 AUTH=PLAIN AUTH=LOGIN", "", []string{"PLAIN", "LOGIN"}},
		{token, "", "", nil},
	} {
		got, err := tt.credentials.Mechanism(strings.Fields(tt.capabilities))
		missing, failed := errors.AsType[*MechanismError](err)
		if got != tt.want || failed != (tt.want == "") || failed && !slices.Equal(missing.Offered, tt.offered) {
			t.Errorf("%+v on %q: got %q, %v", tt.credentials, tt.capabilities, got, err)
		}
	}
}

// TestLogIn checks the exchange of each mechanism on the wire, with and without SASL-IR (RFC 4959).
func TestLogIn(t *testing.T) {
	const (
		done    = "S: TAG OK [CAPABILITY IMAP4rev1 METADATA] in"
		refused = `{"status":"invalid_token","schemes":"bearer","scope":"mail"}`
	)
	plain, xoauth := b64("\x00alice\x00pw"), b64("user=alice\x01auth=Bearer t0ken\x01\x01")
	bearer := b64("n,a=alice,\x01auth=Bearer t0ken\x01\x01")
	greeting := func(capabilities string) string { return "S: * OK [CAPABILITY IMAP4rev1 " + capabilities + "] ready" }
	password, token := Credentials{Username: "alice", Password: "pw"}, Credentials{Username: "alice", Token: "t0ken"}
	for _, tt := range []struct {
		name        string
		credentials Credentials
		script      []string
		err         string // part of its text; empty for none
	}{
		{"LOGIN", password, []string{greeting("AUTH=PLAIN SASL-IR"), `C: LOGIN "alice" "pw"`, done}, ""},
		{"PLAIN with an initial response", password, []string{greeting("LOGINDISABLED AUTH=PLAIN SASL-IR"), "C: AUTHENTICATE PLAIN " + plain, done}, ""},
		{"PLAIN", password, []string{greeting("LOGINDISABLED AUTH=PLAIN"), "C: AUTHENTICATE PLAIN", "S: + ", "R: " + plain, done}, ""},
		{"a bare plus", password, []string{greeting("LOGINDISABLED AUTH=PLAIN"), "C: AUTHENTICATE PLAIN", "S: +", "R: " + plain, done}, ""},
		{"untagged data meanwhile", password, []string{greeting("LOGINDISABLED AUTH=PLAIN"), "C: AUTHENTICATE PLAIN", "S: * OK Still here", "S: + ", "R: " + plain, done}, ""},
		{"PLAIN refused", password, []string{greeting("LOGINDISABLED AUTH=PLAIN SASL-IR"), "C: AUTHENTICATE PLAIN " + plain, "S: TAG NO wrong"}, "AUTHENTICATE PLAIN: the server answered NO wrong"},
		{"asked for", token, []string{"S: * OK ready", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR", "S: TAG OK", "C: AUTHENTICATE XOAUTH2 " + xoauth, done}, ""},
		{"XOAUTH2", token, []string{greeting("AUTH=XOAUTH2"), "C: AUTHENTICATE XOAUTH2", "S: + ", "R: " + xoauth, done}, ""},
		{"XOAUTH2 refused", token, []string{greeting("AUTH=XOAUTH2 SASL-IR"), "C: AUTHENTICATE XOAUTH2 " + xoauth, "S: + " + b64(refused), "R: ", "S: TAG NO wrong"},
			`AUTHENTICATE XOAUTH2: the server answered NO wrong (status "invalid_token", scope "mail")`},
		{"OAUTHBEARER", token, []string{greeting("AUTH=OAUTHBEARER SASL-IR"), "C: AUTHENTICATE OAUTHBEARER " + bearer, done}, ""},
		{"OAUTHBEARER refused", token, []string{greeting("AUTH=OAUTHBEARER"), "C: AUTHENTICATE OAUTHBEARER", "S: + ", "R: " + bearer, "S: + " + b64(refused), "R: AQ==", "S: TAG NO [AUTHENTICATIONFAILED] wrong"},
			`NO [AUTHENTICATIONFAILED] wrong (status "invalid_token", scope "mail")`},
		{"a comma in the user name", Credentials{Username: "a,b=c", Token: "t0ken"}, []string{greeting("AUTH=OAUTHBEARER SASL-IR"), "C: AUTHENTICATE OAUTHBEARER " + b64("n,a=a=2Cb=3Dc,\x01auth=Bearer t0ken\x01\x01"), done}, ""},
		{"a challenge that is not JSON", token, []string{greeting("AUTH=XOAUTH2 SASL-IR"), "C: AUTHENTICATE XOAUTH2 " + xoauth, "S: + " + b64("no"), "R: *", "S: TAG BAD cancelled"}, "challenge cannot be used"},
		{"a challenge that is not base64", password, []string{greeting("LOGINDISABLED AUTH=PLAIN SASL-IR"), "C: AUTHENTICATE PLAIN " + plain, "S: + !", "R: *", "S: TAG BAD cancelled"}, "challenge cannot be used"},
		{"challenges without end", token, []string{greeting("AUTH=XOAUTH2 SASL-IR"), "C: AUTHENTICATE XOAUTH2 " + xoauth, "S: + " + b64(refused), "R: ", "S: + " + b64(refused), "R: ", "S: + " + b64(refused), "R: ", "S: + " + b64(refused), "R: ", "S: + " + b64(refused)}, "does not end the exchange"},
		{"a challenge after the end", password, []string{greeting("LOGINDISABLED AUTH=PLAIN SASL-IR"), "C: AUTHENTICATE PLAIN " + plain, "S: + ", "R: *", "S: + "}, "does not end the exchange"},
		{"no mechanism for a token", token, []string{greeting("AUTH=PLAIN")}, "the server offers PLAIN: want OAUTHBEARER or XOAUTH2"},
		{"no mechanism for a password", password, []string{greeting("LOGINDISABLED")}, "the server offers no SASL mechanism: want PLAIN"},
		{"token of two lines", Credentials{Username: "alice", Token: "t0\nken"}, []string{greeting("AUTH=XOAUTH2")}, "control character"},
		{"user name that ends its field", Credentials{Username: "al\x01ice", Token: "t0ken"}, []string{greeting("AUTH=XOAUTH2")}, "control character"},
		{"password of two lines", Credentials{Username: "alice", Password: "p\r\nw"}, []string{greeting("AUTH=PLAIN")}, "line break"},
		{"token too long", Credentials{Username: "alice", Token: strings.Repeat("x", 10000)}, []string{greeting("AUTH=XOAUTH2")}, "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := NewClient(t.Context(), script(t, tt.script...))
			if err != nil {
				t.Fatal(err)
			}
			capabilities, err := c.LogIn(t.Context(), tt.credentials)
			if err == nil != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if err == nil && !Has(capabilities, "METADATA") {
				t.Errorf("got the capabilities %q", capabilities)
			}
			if err != nil && (strings.Contains(err.Error(), "t0ken") || strings.Contains(err.Error(), xoauth)) {
				t.Errorf("the token is in %v", err)
			}
		})
	}
}

func TestCredentialsHideTheirSecrets(t *testing.T) {
	c := Credentials{Username: "alice", Password: "hunter2", Token: "t0ken"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, value := range []any{c, &c, Options{Credentials: c}} {
			if got := fmt.Sprintf(verb, value); strings.Contains(got, "hunter2") || strings.Contains(got, "t0ken") {
				t.Errorf("%s prints %s", verb, got)
			}
		}
	}
}

// FuzzLogIn runs LogIn against a server that answers AUTHENTICATE with anything.
func FuzzLogIn(f *testing.F) {
	f.Add([]byte("+ \r\nA0001 OK [CAPABILITY IMAP4rev1] in\r\n"))
	f.Add([]byte("+ \r\n+ eyJzdGF0dXMiOiI0MDAifQ==\r\nA0001 NO no\r\n"))
	f.Add([]byte("+\r\n+ !\r\n+ \r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, server := net.Pipe()
		defer conn.Close()
		go io.Copy(io.Discard, server)
		go func() {
			defer server.Close()
			io.WriteString(server, "* OK [CAPABILITY IMAP4rev1 AUTH=OAUTHBEARER] ready\r\n")
			server.Write(sent)
		}()
		c, err := NewClient(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		capabilities, err := c.LogIn(t.Context(), Credentials{Username: "alice", Token: "t0ken"})
		if err == nil && !Has(capabilities, "IMAP4rev1") {
			t.Errorf("logged in with the capabilities %q", capabilities)
		}
	})
}
