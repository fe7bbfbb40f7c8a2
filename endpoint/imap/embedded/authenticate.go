package embedded

import (
	"errors"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-sasl"
)

var _ imapserver.SessionSASL = (*mailSession)(nil)

// AuthenticateMechanisms implements imapserver.SessionSASL.
func (s *mailSession) AuthenticateMechanisms() []string { return []string{sasl.Plain} }

// Authenticate returns the server's side of PLAIN (RFC 4616), which checks the password as Login does.
func (s *mailSession) Authenticate(mechanism string) (sasl.Server, error) {
	if mechanism != sasl.Plain {
		return nil, &imap.Error{Type: imap.StatusResponseTypeNo, Text: "Unknown SASL mechanism: PLAIN is supported"}
	}
	return saslServer{sasl.NewPlainServer(func(identity, username, password string) error {
		if identity != "" && identity != username {
			return refusal(imap.ResponseCodeAuthorizationFailed, "You can only log in as yourself")
		}
		return s.Login(username, password)
	})}, nil
}

// A saslServer answers BAD to a client whose responses cannot be read. go-imap would report them as errors of the server.
type saslServer struct{ sasl.Server }

func (s saslServer) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = s.Server.Next(response)
	if _, answered := errors.AsType[*imap.Error](err); err != nil && !answered {
		err = &imap.Error{Type: imap.StatusResponseTypeBad, Text: "Malformed SASL response"}
	}
	return challenge, done, err
}
