package discovery

import (
	"errors"

	"github.com/emersion/go-sasl"
)

// xoauth2 is the mechanism that preceded OAUTHBEARER. It has no RFC:
// https://developers.google.com/workspace/gmail/imap/xoauth2-protocol.
const xoauth2 = "XOAUTH2"

// An xoauth2Client is the client's side of XOAUTH2. Its error challenge is that of OAUTHBEARER, which Client reads.
type xoauth2Client struct {
	sasl.Client
	credentials Credentials
}

func (c *xoauth2Client) Start() (mechanism string, initial []byte, err error) {
	return xoauth2, []byte("user=" + c.credentials.Username + "\x01auth=Bearer " + c.credentials.Token + "\x01\x01"), nil
}

// A bearerClient answers the challenge by which a server refuses a token, and only then ends the command (RFC 7628 section 3.2.3).
// go-sasl would cancel the exchange instead, and the server's explanation would be lost.
type bearerClient struct {
	sasl.Client
	last   []byte // the response to the refusal
	reason *sasl.OAuthBearerError
}

func (c *bearerClient) Next(challenge []byte) ([]byte, error) {
	_, err := c.Client.Next(challenge)
	if reason, ok := errors.AsType[*sasl.OAuthBearerError](err); ok {
		c.reason = reason
		return c.last, nil
	}
	return nil, err
}
