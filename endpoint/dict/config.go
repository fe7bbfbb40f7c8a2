// Package dict is a dictionary for Dovecot that answers the annotations from which Delta Chat learns about a TURN server, and
// forwards every other key to the next dictionary, if there is one. Dovecot names it in mail_attribute_dict.
package dict

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/socket"
)

// Schema is the body of an endpoint "dict" block. `mailturn reference` prints the documentation in its tags.
type Schema struct {
	socket.Attributes
	Next config.Value[string] `hcl:"next" type:"file" doc:"Unix socket of the dict server for all other keys: Dovecot's own, or chatmail's metadata daemon. Without it, other keys have no value and cannot be set."`
	Settings
	issuer.Schema
}

// Settings are the attributes that need only a declaration here, and the code that uses them.
type Settings struct {
	MaxConnections int `hcl:"max_connections" default:"10000" min:"1" doc:"Maximum number of connections; each may have one to the next server. Dovecot opens one for each IMAP session that looks something up, and closes it soon. Further connections are closed at once."`
}

// Config is an endpoint "dict" block as plain values.
type Config struct {
	Name   string
	Range  hcl.Range // of the block's header
	Socket socket.Config
	// Next is the path of the next server's socket, empty for none.
	Next string
	Settings
	TURN issuer.Config
}

// Decode checks the block and returns its plain values. hostname is that of the file, or empty. LinkTURN has to be called
// next.
func Decode(endpoint config.Endpoint, hostname string) (Config, hcl.Diagnostics) {
	var s Schema
	diags := endpoint.Decode(&s)
	c := Config{Name: endpoint.Name, Range: endpoint.Range, Settings: s.Settings}
	var more hcl.Diagnostics
	c.Socket, more = socket.Decode(s.Attributes, endpoint.Range)
	diags = append(diags, more...)
	diags = append(diags, c.decodeNext(s.Next)...)
	c.TURN, more = issuer.Decode(endpoint, s.Schema, hostname)
	diags = append(diags, more...)
	return c, append(diags, c.TURN.CheckRefresh()...)
}

func (c *Config) decodeNext(v config.Value[string]) hcl.Diagnostics {
	if !v.Set {
		return nil
	}
	c.Next = config.Path(v)
	switch c.Next {
	case "":
		return hcl.Diagnostics{config.Errorf(v.Range, "Path of the next server is empty", "Omit next if there is none.")}
	case c.Socket.Path:
		return hcl.Diagnostics{config.WithHint(config.Errorf(v.Range, "Endpoint would query itself",
			"next is %s, the socket that this endpoint listens on.", c.Next), "set next to the socket of the server that Dovecot has used until now")}
	}
	return nil
}

// LinkTURN fills in what the block leaves out from the TURN endpoint of the same file, nil if there is none: see
// issuer.Config.Link.
func (c *Config) LinkTURN(relay *issuer.Relay) hcl.Diagnostics {
	diags := c.TURN.Link(relay, c.Range)
	return append(diags, c.TURN.CheckUDP(c.Range)...)
}
