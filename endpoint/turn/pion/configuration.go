package pion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/listen"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// firstSocket is the descriptor of the first socket in the engine, after those of the standard streams.
const firstSocket = 3

// configuration is the part of a turn.Config that the engine receives, as JSON: what pion can do, without what only the process
// that starts the engine needs.
type configuration struct {
	Name          string
	Range         hcl.Range
	Listen        []string
	ProxyProtocol []netip.Prefix
	TLS           []certs.Pair

	Realm   string
	Secrets [][]byte
	Users   map[string][]byte

	RelayIP, RelayBind []netip.Addr
	MinPort, MaxPort   uint16
	Allow, Deny        []netip.Prefix

	UserQuota, SourceQuota, TotalQuota  int
	MaxStreams                          int
	ExpiredGrace, MaxCredentialLifetime time.Duration
}

// encode returns the configuration of c in the form that the engine reads. It contains secrets. Configurations that are equal for
// the engine have the same encoding.
func encode(c turn.Config) ([]byte, error) {
	e := configuration{
		Name: c.Name, Range: c.Range, ProxyProtocol: c.ProxyProtocol, TLS: c.TLS,
		Realm: c.Realm, Users: make(map[string][]byte),
		RelayIP: c.RelayIP, RelayBind: c.RelayBind, MinPort: c.RelayPorts.V.Min, MaxPort: c.RelayPorts.V.Max,
		Allow: c.Peers.Allow.V, Deny: c.Peers.Deny,
		UserQuota: c.UserQuota, SourceQuota: c.SourceQuota, TotalQuota: c.TotalQuota, MaxStreams: c.MaxStreams,
		ExpiredGrace: c.ExpiredGrace, MaxCredentialLifetime: c.MaxCredentialLifetime.V,
	}
	for _, address := range c.Listen {
		e.Listen = append(e.Listen, address.String())
	}
	for _, secret := range c.Secrets {
		e.Secrets = append(e.Secrets, secret.Bytes())
	}
	for name, password := range c.Users {
		e.Users[name] = password.Bytes()
	}
	return json.Marshal(e)
}

// decode is the inverse of encode.
func decode(from *json.Decoder) (turn.Config, error) {
	var e configuration
	if err := from.Decode(&e); err != nil {
		return turn.Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	c := turn.Config{
		Name: e.Name, Range: e.Range, Engine: turn.Pion, ProxyProtocol: e.ProxyProtocol, TLS: e.TLS,
		Realm: e.Realm, Users: make(map[string]credential.Secret),
		RelayIP: e.RelayIP, RelayBind: e.RelayBind, MaxStreams: e.MaxStreams,
	}
	c.RelayPorts.V = turn.PortRange{Min: e.MinPort, Max: e.MaxPort}
	c.Peers.Allow.V, c.Peers.Deny = e.Allow, e.Deny
	c.UserQuota, c.SourceQuota, c.TotalQuota = e.UserQuota, e.SourceQuota, e.TotalQuota
	c.ExpiredGrace, c.MaxCredentialLifetime.V = e.ExpiredGrace, e.MaxCredentialLifetime
	for _, text := range e.Listen {
		var address listen.Addr
		if err := address.UnmarshalText([]byte(text)); err != nil {
			return turn.Config{}, fmt.Errorf("listen on %s: %w", text, err)
		}
		c.Listen, c.ListenRanges = append(c.Listen, address), append(c.ListenRanges, e.Range)
	}
	for _, secret := range e.Secrets {
		c.Secrets = append(c.Secrets, credential.NewSecret(secret))
	}
	for name, password := range e.Users {
		c.Users[name] = credential.NewSecret(password)
	}
	return c, nil
}

// open binds the sockets of c and returns their descriptors in the order in which the engine expects them.
func open(ctx context.Context, c turn.Config) (files []*os.File, err error) {
	sockets, err := turn.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, socket := range sockets {
		file, fileErr := socket.File()
		err = errors.Join(err, fileErr, socket.Close())
		if fileErr == nil {
			files = append(files, file)
		}
	}
	if err != nil {
		for _, file := range files {
			_ = file.Close()
		}
		return nil, err
	}
	return files, nil
}
