package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/miekg/dns"
)

// ask sends a question to the servers in turn, until one of them answers it, and returns the answer. The error is an *Error.
func (r *Resolver) ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, netip.AddrPort, error) {
	problem := &Error{Name: name, Type: qtype, Err: ErrNoServer}
	attempts := r.Attempts
	if attempts == 0 {
		attempts = DefaultAttempts
	}
	for range attempts {
		for _, server := range r.Servers {
			if ctx.Err() != nil {
				return nil, server, &Error{Name: name, Type: qtype, Server: server, Err: ErrTimeout, Cause: ctx.Err()}
			}
			response, err := r.exchange(ctx, server, name, qtype)
			problem = &Error{Name: name, Type: qtype, Server: server, Cause: err}
			switch {
			case err != nil:
				problem.Err = ErrUnreachable
				if isTimeout(err) {
					problem.Err = ErrTimeout
				}
				continue
			case response.Rcode == dns.RcodeSuccess:
				return response, server, nil
			case response.Rcode == dns.RcodeNameError:
				problem.Err = ErrNXDOMAIN
				return nil, server, problem
			case response.Rcode == dns.RcodeRefused:
				problem.Err = ErrRefused
			default:
				problem.Err = ErrServerFailure
			}
		}
	}
	return nil, problem.Server, problem
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// exchange asks one server over UDP, and again over TCP if the answer was truncated (RFC 7766 section 5).
func (r *Resolver) exchange(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(name), qtype)
	question.SetEdns0(udpSize, false)
	client := dns.Client{Timeout: r.Timeout, UDPSize: udpSize}
	if client.Timeout == 0 {
		client.Timeout = DefaultTimeout
	}
	response, _, err := client.ExchangeContext(ctx, question, server.String())
	if err == nil && response.Truncated {
		client.Net = "tcp"
		response, _, err = client.ExchangeContext(ctx, question, server.String())
	}
	switch {
	case err != nil:
		return nil, err
	case !response.Response || len(response.Question) != 1 || response.Question[0].Qtype != qtype || canonical(response.Question[0].Name) != canonical(name):
		return nil, errors.New("the answer belongs to another question")
	}
	return response, nil
}
