// Package credsock issues TURN credentials to every client of a Unix socket, as chatmail-turn does: it writes "user:password" and a
// line feed, and closes the connection. It replaces chatmail-turn for the metadata daemon of a chatmail relay, whose
// turn_socket_path names the socket.
package credsock

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/socket"
)

// chatmailPort is the port that chatmail's metadata daemon puts before the credential, whatever the relay listens on.
const chatmailPort = 3478

// Schema is the body of an endpoint "credsock" block. `mailturn reference` prints the documentation in its tags.
type Schema struct {
	socket.Attributes
	issuer.CredentialSchema
}

// Config is an endpoint "credsock" block as plain values.
type Config struct {
	Name   string
	Range  hcl.Range // of the block's header
	Socket socket.Config
	Issuer issuer.Config // only secrets and lifetime
}

// Decode checks the block and returns its plain values. LinkTURN has to be called next.
func Decode(endpoint config.Endpoint) (Config, hcl.Diagnostics) {
	var s Schema
	diags := endpoint.Decode(&s)
	c := Config{Name: endpoint.Name, Range: endpoint.Range}
	var more hcl.Diagnostics
	c.Socket, more = socket.Decode(s.Attributes, endpoint.Range)
	diags = append(diags, more...)
	c.Issuer, more = issuer.DecodeCredential(s.CredentialSchema)
	diags = append(diags, more...)
	return c, append(diags, c.Issuer.CheckRefresh()...)
}

// LinkTURN takes the secret from the TURN endpoint of the same file, nil if there is none, unless the block has its own: see
// issuer.Config.LinkSecrets. It warns about a relay that chatmail's clients would not find.
func (c *Config) LinkTURN(relay *issuer.Relay) hcl.Diagnostics {
	diags := c.Issuer.LinkSecrets(relay, c.Range)
	if relay != nil && !slices.Contains(relay.UDPPorts, chatmailPort) {
		diags = append(diags, config.WithHint(config.Warnf(c.Range, "Relay is not on chatmail's port",
			"chatmail's metadata daemon tells clients port %d, and endpoint turn %q does not listen there with UDP.", chatmailPort, relay.Name),
			fmt.Sprintf("add udp://0.0.0.0:%d to the addresses of the TURN endpoint", chatmailPort)))
	}
	return diags
}
