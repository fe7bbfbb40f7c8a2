package discovery

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
)

// Bounds on a SASL exchange.
const (
	// maxSASLLine bounds each line of ours, in bytes. It is the length that RFC 4954 section 4 asks of SMTP; IMAP has no
	// figure.
	maxSASLLine = 12288
	// maxChallenges bounds what a server may ask for after the first response. No mechanism here needs more than one.
	maxChallenges = 4
)

// Credentials are what a user logs in with: a password, or an OAuth 2.0 access token, as large providers ask for. Neither is
// printed.
type Credentials struct {
	Username string
	Password string // ignored if there is a token
	Token    string // an access token, not a refresh token
}

// String returns the user name.
func (c Credentials) String() string { return c.Username }

// GoString returns what String does, so that %#v prints no secret.
func (c Credentials) GoString() string { return c.Username }

// MarshalText returns what String does, so that neither JSON nor a handler of log/slog writes a secret.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.Username), nil }

// Mechanism returns how Client.LogIn logs in on a server with these capabilities, as told before login.
//
// With a password that is "LOGIN", the command that core uses; where the server disables it (RFC 9051 section 6.2.3), "PLAIN"
// (RFC 4616). With a token it is "OAUTHBEARER" (RFC 7628), else "XOAUTH2", which Gmail and Outlook document. The error is a
// *MechanismError if the server offers neither.
func (c Credentials) Mechanism(capabilities []string) (string, error) {
	wanted := []string{"PLAIN"}
	switch {
	case c.Token != "":
		wanted = []string{sasl.OAuthBearer, xoauth2}
	case !Has(capabilities, "LOGINDISABLED"):
		return "LOGIN", nil
	}
	for _, mechanism := range wanted {
		if Has(capabilities, "AUTH="+mechanism) {
			return mechanism, nil
		}
	}
	e := &MechanismError{Wanted: wanted}
	for _, capability := range capabilities {
		if mechanism, ok := strings.CutPrefix(strings.ToUpper(capability), "AUTH="); ok {
			e.Offered = append(e.Offered, mechanism)
		}
	}
	return "", e
}

// MechanismError reports that a server offers no mechanism for the given credentials.
type MechanismError struct {
	Wanted  []string // SASL mechanisms that would work
	Offered []string // those that the server lists
}

func (e *MechanismError) Error() string {
	offered := "no SASL mechanism"
	if len(e.Offered) > 0 {
		offered = strings.Join(e.Offered, ", ")
	}
	return fmt.Sprintf("the server offers %s: want %s", offered, strings.Join(e.Wanted, " or "))
}

// check refuses what none of the mechanisms can carry.
func (c Credentials) check() error {
	switch {
	case strings.ContainsAny(c.Username+c.Password, "\r\n\x00"):
		return errors.New("log in: the user name or the password contains a line break or NUL")
	case c.Token != "" && strings.ContainsFunc(c.Username+c.Token, func(r rune) bool { return r < ' ' }):
		return errors.New("log in: the user name or the token contains a control character")
	}
	return nil
}

// LogIn logs in (RFC 9051 sections 6.2.2 and 6.2.3), see Credentials.Mechanism, and returns the capabilities after login: from
// the tagged OK, or from the command CAPABILITY if they are not in it.
//
// A server whose greeting has no capabilities is asked for them first, which core does not do: LOGIN must not be sent to one
// that disables it. The error is a *StatusError if the server refuses the credentials.
func (c *Client) LogIn(ctx context.Context, credentials Credentials) ([]string, error) {
	if err := credentials.check(); err != nil {
		return nil, err
	}
	offered, err := c.Capabilities(ctx)
	if err != nil && !survivable(err) {
		return nil, err
	}
	mechanism, err := credentials.Mechanism(offered)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	c.greetCaps, c.capability, c.capabilityErr = nil, nil, nil
	if mechanism == "LOGIN" {
		err = c.login(ctx, credentials.Username, credentials.Password)
	} else {
		err = c.authenticate(ctx, credentials.client(mechanism), Has(offered, "SASL-IR"))
	}
	if err != nil {
		return nil, err
	}
	return c.Capabilities(ctx)
}

// survivable reports whether the session can continue after an error from Capabilities: core ignores the list before login.
func survivable(err error) bool {
	status, refused := errors.AsType[*StatusError](err)
	return errors.Is(err, ErrUnparsable) || errors.Is(err, errNoList) || refused && status.Status != "BYE"
}

func (c *Client) login(ctx context.Context, username, password string) error {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	return c.simple(ctx, "LOGIN", ` "`+quote.Replace(username)+`" "`+quote.Replace(password)+`"`)
}

// client returns the client's side of one of the mechanisms that Mechanism returns, other than LOGIN.
func (c Credentials) client(mechanism string) sasl.Client {
	switch mechanism {
	case sasl.OAuthBearer:
		escape := strings.NewReplacer("=", "=3D", ",", "=2C") // RFC 5801 section 4, which go-sasl leaves to its caller
		return &bearerClient{
			Client: sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: escape.Replace(c.Username), Token: c.Token}),
			last:   []byte{1},
		}
	case xoauth2:
		return &bearerClient{Client: &xoauth2Client{Client: sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{}), credentials: c}, last: []byte{}}
	default:
		return sasl.NewPlainClient("", c.Username, c.Password)
	}
}

// authenticate runs the client's side of a mechanism by the command AUTHENTICATE (RFC 9051 section 6.2.2). With initial, the
// first response is in the command (SASL-IR, RFC 4959), else it follows the server's first request.
func (c *Client) authenticate(ctx context.Context, client sasl.Client, initial bool) error {
	name, response, err := client.Start()
	if err != nil {
		return err
	}
	command := "AUTHENTICATE " + name
	first := base64.StdEncoding.EncodeToString(response)
	arguments := ""
	if initial {
		arguments = " " + first
	}
	if len(first) > maxSASLLine-len("A0000  \r\n")-len(command) {
		return fmt.Errorf("%s: the credentials are too long", command)
	}
	challenges := 0
	var cancelled error // why the exchange was ended on our side
	respond := func(challenge string) (string, error) {
		if !initial {
			initial = true
			return first, nil
		}
		if challenges++; challenges > maxChallenges || cancelled != nil {
			return "", fmt.Errorf("%w: the server does not end the exchange", ErrUnparsable)
		}
		decoded, err := base64.StdEncoding.DecodeString(challenge)
		if err == nil {
			response, err = client.Next(decoded)
		}
		if err != nil {
			cancelled = err
			return "*", nil
		}
		return base64.StdEncoding.EncodeToString(response), nil
	}
	err = c.exchange(ctx, command, arguments, ignore, respond)
	switch status, refused := errors.AsType[*StatusError](err); {
	case !refused:
	case cancelled != nil:
		return fmt.Errorf("%s: the server's challenge cannot be used: %w", command, cancelled)
	default:
		if bearer, ok := client.(*bearerClient); ok && bearer.reason != nil {
			status.Text = strings.TrimSpace(fmt.Sprintf("%s (status %.80q, scope %.80q)", status.Text, bearer.reason.Status, bearer.reason.Scope))
		}
	}
	return err
}
