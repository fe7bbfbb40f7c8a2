// Package neighbor probes other relays of a cluster as their clients would use them: whether they give relayed addresses, on every
// transport that they announce. What other machines find out about a relay decides with it whether clients are told about it.
package neighbor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	// attempts is how often an unsuccessful probe of a transport is made before it has failed.
	attempts = 2
	// patience is how long one of them may take: over UDP, its requests are sent three times.
	patience = 3 * time.Second
	// lifetime is that of the credentials.
	lifetime = 10 * time.Minute
	// AccountPrefix begins the account name of a prober. The name of its relay follows.
	AccountPrefix = "probe:"
)

// Probe allocates on a relay over each transport that it announces, on the port that clients are told first, with credentials for
// the relay named by. It returns an error that names the transport that fails. A relay that refuses because of a limit has answered,
// and does not fail.
func Probe(ctx context.Context, r cluster.Relay, secret credential.Secret, by string) error {
	issued := credential.Issuer{Secret: secret, TTL: lifetime}.IssueFor(AccountPrefix+by, time.Now())
	type result struct {
		transport string
		port      uint16
		err       error
	}
	results := make(chan result)
	asked := 0
	for transport, ports := range map[string][]uint16{"UDP": r.UDP, "TCP": r.TCP, "TLS": r.TLS} {
		if len(ports) == 0 {
			continue
		}
		asked++
		go func() {
			var err error
			for range attempts {
				if err = allocate(ctx, transport, net.JoinHostPort(r.Server, strconv.Itoa(int(ports[0]))), issued); err == nil {
					break
				}
			}
			results <- result{transport, ports[0], err}
		}()
	}
	var failed error
	for range asked {
		if got := <-results; got.err != nil && failed == nil {
			failed = fmt.Errorf("%s port %d: %w", got.transport, got.port, got.err)
		}
	}
	return failed
}

// allocate asks for a relayed address, and gives it back.
func allocate(ctx context.Context, transport, addr string, issued credential.Credential) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := dial(ctx, transport, addr)
	if err != nil {
		return err
	}
	client := turnclient.New(turnclient.Config{Conn: conn, Stream: transport != "UDP", Username: issued.Username, Password: issued.Password})
	defer client.Close()
	if _, err := client.Challenge(ctx); err != nil {
		return inWords(err)
	}
	if _, err := client.Allocate(ctx); err != nil {
		return inWords(err)
	}
	_, err = client.Refresh(ctx, 0)
	return inWords(err)
}

// dial connects to a relay. Certificates are not verified, because a probe has nothing to hide, and clients may have other roots.
func dial(ctx context.Context, transport, addr string) (net.Conn, error) {
	var dialer net.Dialer
	switch transport {
	case "UDP":
		return dialer.DialContext(ctx, "udp", addr)
	case "TLS":
		return (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", addr)
	}
	return dialer.DialContext(ctx, "tcp", addr)
}

// inWords returns nil for an answer that says only that there is no room for now, and that the relay would serve others.
func inWords(err error) error {
	switch turnclient.Code(err) {
	case stun.CodeTryAlternate, stun.CodeAllocationQuotaReached, stun.CodeInsufficientCapacity:
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return turnclient.ErrNoAnswer
	}
	return err
}
