package deltachat

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Account is a profile of core: somebody with a key and mailboxes.
type Account struct {
	core *Core
	id   uint32
}

// AddAccount makes an account without a mailbox.
func (c *Core) AddAccount(ctx context.Context) (*Account, error) {
	a := &Account{core: c}
	if err := c.Call(ctx, &a.id, "add_account"); err != nil {
		return nil, err
	}
	return a, nil
}

// Core returns the core that has the account.
func (a *Account) Core() *Core { return a.core }

// call calls a method whose first parameter is the account.
func (a *Account) call(ctx context.Context, result any, method string, params ...any) error {
	return a.core.Call(ctx, result, method, append([]any{a.id}, params...)...)
}

// get is call for a method that returns a T.
func get[T any](ctx context.Context, a *Account, method string, params ...any) (result T, err error) {
	err = a.call(ctx, &result, method, params...)
	return result, err
}

// Security of a connection.
const (
	TLS      = "ssl"
	StartTLS = "starttls"
	Plain    = "plain"
)

// Checks of a server's certificate.
const (
	// Strict checks the chain and the name; for a name that begins with an underscore only the name.
	Strict = "strict"
	// AcceptInvalid checks nothing, and uses another TLS library.
	AcceptInvalid = "acceptInvalidCertificates"
)

// Transport is a mailbox and how to reach it. With servers, ports and security given, core asks nobody for them.
type Transport struct {
	Addr         string `json:"addr"`
	Password     string `json:"password"`
	IMAPServer   string `json:"imapServer"`
	IMAPPort     int    `json:"imapPort"`
	IMAPSecurity string `json:"imapSecurity"`
	IMAPUser     string `json:"imapUser"`
	SMTPServer   string `json:"smtpServer"`
	SMTPPort     int    `json:"smtpPort"`
	SMTPSecurity string `json:"smtpSecurity"`
	SMTPUser     string `json:"smtpUser"`
	SMTPPassword string `json:"smtpPassword"`
	// CertificateChecks is Strict or AcceptInvalid.
	CertificateChecks string `json:"certificateChecks"`
}

// AddTransport logs in to a mailbox, and begins to fetch and send.
func (a *Account) AddTransport(ctx context.Context, t Transport) error {
	return a.call(ctx, nil, "add_or_update_transport", t)
}

// StopIO ends fetching and sending until StartIO, as without a network.
func (a *Account) StopIO(ctx context.Context) error { return a.call(ctx, nil, "stop_io") }

// StartIO begins to fetch and send again.
func (a *Account) StartIO(ctx context.Context) error { return a.call(ctx, nil, "start_io") }

// SetConfig sets one of core's settings.
func (a *Account) SetConfig(ctx context.Context, key, value string) error {
	return a.call(ctx, nil, "set_config", key, value)
}

// QR returns the invitation that others scan to become the account's contacts.
func (a *Account) QR(ctx context.Context) (string, error) {
	return get[string](ctx, a, "get_chat_securejoin_qr_code", nil)
}

// SecureJoin begins to follow an invitation. It returns the chat with the one who invited.
func (a *Account) SecureJoin(ctx context.Context, qr string) (chatID uint32, err error) {
	return get[uint32](ctx, a, "secure_join", qr)
}

// ChatWith returns the chat with a contact.
func (a *Account) ChatWith(ctx context.Context, contactID uint32) (chatID uint32, err error) {
	return get[uint32](ctx, a, "create_chat_by_contact_id", contactID)
}

// Send puts a text message into a chat, to be sent at once if there is a connection.
func (a *Account) Send(ctx context.Context, chatID uint32, text string) (msgID uint32, err error) {
	return get[uint32](ctx, a, "misc_send_text_message", chatID, text)
}

// Text returns the text of a message.
func (a *Account) Text(ctx context.Context, msgID uint32) (string, error) {
	message, err := get[struct {
		Text string `json:"text"`
	}](ctx, a, "get_message", msgID)
	return message.Text, err
}

// PlaceCall rings the one whom the account has the chat with. info is for the other app: an SDP offer in practice.
func (a *Account) PlaceCall(ctx context.Context, chatID uint32, info string) (msgID uint32, err error) {
	msgID, err = get[uint32](ctx, a, "place_outgoing_call", chatID, info, false) // without video
	if err != nil && strings.Contains(err.Error(), "takes an array of 3 arguments") {
		return get[uint32](ctx, a, "place_outgoing_call", chatID, info) // as 2.33.0 has it
	}
	return msgID, err
}

// AcceptCall answers a call that rings. info is for the other app: an SDP answer in practice.
func (a *Account) AcceptCall(ctx context.Context, msgID uint32, info string) error {
	return a.call(ctx, nil, "accept_incoming_call", msgID, info)
}

// EndCall ends a call, or declines it.
func (a *Account) EndCall(ctx context.Context, msgID uint32) error {
	return a.call(ctx, nil, "end_call", msgID)
}

// CallState returns what became of a call: Alerting, Active, Completed, Missed, Declined or Canceled.
func (a *Account) CallState(ctx context.Context, msgID uint32) (string, error) {
	info, err := get[struct {
		State struct {
			Kind string `json:"kind"`
		} `json:"state"`
	}](ctx, a, "call_info", msgID)
	return info.State.Kind, err
}

// An ICEServer is what an app hands to WebRTC (RTCIceServer in the W3C's recommendation, section 4.2.2).
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// ICEServers returns the servers for a call that is placed now, with the names already resolved. Core knows none before its
// first connection.
func (a *Account) ICEServers(ctx context.Context) ([]ICEServer, error) {
	text, err := a.ICEServersJSON(ctx)
	if err != nil {
		return nil, err
	}
	var servers []ICEServer
	if err := json.Unmarshal([]byte(text), &servers); err != nil {
		return nil, fmt.Errorf("ice_servers: %w in %q", err, text)
	}
	return servers, nil
}

// ICEServersJSON returns the servers as core writes them.
func (a *Account) ICEServersJSON(ctx context.Context) (string, error) {
	return get[string](ctx, a, "ice_servers")
}
