package acme

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

// DNSUpdate is a name server that accepts dynamic updates (RFC 2136) signed with TSIG (RFC 8945).
type DNSUpdate struct {
	Server    string // HOST:PORT
	Zone      string // fully qualified; empty to ask the server
	KeyName   string // fully qualified
	Algorithm string // in the form of miekg/dns
	Key       Secret // base64
}

const (
	dnsTimeout = 10 * time.Second // of one exchange
	dnsTTL     = 60               // of the record, in seconds
	// How long the zone's other name servers may take to publish the record, and the time between two queries.
	propagationLimit = 2 * time.Minute
	propagationLook  = 2 * time.Second
	tsigFudge        = 300 // seconds, RFC 8945 section 10
)

// Present implements acmez.Solver: it adds the TXT record of RFC 8555 section 8.4.
func (u DNSUpdate) Present(ctx context.Context, challenge acme.Challenge) error {
	return u.update(ctx, challenge, (*dns.Msg).Insert)
}

// CleanUp implements acmez.Solver: it removes only this record of that name.
func (u DNSUpdate) CleanUp(ctx context.Context, challenge acme.Challenge) error {
	return u.update(ctx, challenge, (*dns.Msg).Remove)
}

// update sends one update about the challenge's record.
func (u DNSUpdate) update(ctx context.Context, challenge acme.Challenge, change func(*dns.Msg, []dns.RR)) error {
	record := &dns.TXT{
		Hdr: dns.RR_Header{Name: dns.Fqdn(challenge.DNS01TXTRecordName()), Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: dnsTTL},
		Txt: []string{challenge.DNS01KeyAuthorization()},
	}
	zone, err := u.zone(ctx, record.Hdr.Name)
	if err != nil {
		return &updateError{err}
	}
	m := new(dns.Msg).SetUpdate(zone)
	change(m, []dns.RR{record})
	m.SetTsig(u.KeyName, u.Algorithm, tsigFudge, time.Now().Unix())
	answer, err := u.exchange(ctx, u.Server, m)
	if answer != nil {
		err = cmp.Or(u.refusedKey(answer), err)
	}
	if err == nil && answer.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("it answers %s, so it does not let the key %s change %s", dns.RcodeToString[answer.Rcode], u.KeyName, record.Hdr.Name)
	}
	if err != nil {
		return &updateError{fmt.Errorf("update %s at name server %s: %w", zone, u.Server, err)}
	}
	return nil
}

// updateError means that a name server has not accepted an update.
type updateError struct{ err error }

func (e *updateError) Error() string { return e.err.Error() }

func (e *updateError) Unwrap() error { return e.err }

// refusedKey returns why the server does not accept the signature of a message (RFC 8945 section 5.2), or nil if it does. Without a
// valid key, it cannot sign that answer.
func (u DNSUpdate) refusedKey(answer *dns.Msg) error {
	signature := answer.IsTsig()
	if signature == nil {
		return nil
	}
	switch signature.Error {
	case dns.RcodeBadKey:
		return fmt.Errorf("it has no key %s for %s, or none that may change the zone: correct key_name or key_algorithm, or its configuration",
			u.KeyName, strings.TrimSuffix(u.Algorithm, "."))
	case dns.RcodeBadSig:
		return fmt.Errorf("it has another key %s than that in key: copy the key again", u.KeyName)
	case dns.RcodeBadTime:
		return errors.New("the clocks of this machine and of the name server differ: set them")
	}
	return nil
}

// exchange sends m over TCP, which has room for updates of any size, and checks the signature of the answer if m is signed.
func (u DNSUpdate) exchange(ctx context.Context, server string, m *dns.Msg) (*dns.Msg, error) {
	client := dns.Client{Net: "tcp", Timeout: dnsTimeout, TsigSecret: map[string]string{u.KeyName: u.Key.text}}
	answer, _, err := client.ExchangeContext(ctx, m, server)
	return answer, err
}

// zone returns the zone of a name: the longest for which the server is authoritative.
func (u DNSUpdate) zone(ctx context.Context, name string) (string, error) {
	if u.Zone != "" {
		return u.Zone, nil
	}
	for _, start := range dns.Split(name) {
		answer, err := u.exchange(ctx, u.Server, new(dns.Msg).SetQuestion(name[start:], dns.TypeSOA))
		if err != nil {
			return "", fmt.Errorf("ask name server %s for the zone of %s: %w", u.Server, name, err)
		}
		if answer.Authoritative && len(answer.Answer) > 0 {
			if soa, ok := answer.Answer[0].(*dns.SOA); ok {
				return soa.Hdr.Name, nil
			}
		}
	}
	return "", fmt.Errorf("name server %s is not authoritative for %s: set zone, or another server", u.Server, strings.TrimSuffix(name, "."))
}

// Wait implements acmez.Waiter: it returns when every reachable name server of the zone has the record, or after propagationLimit.
func (u DNSUpdate) Wait(ctx context.Context, challenge acme.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, propagationLimit)
	defer cancel()
	name, want := dns.Fqdn(challenge.DNS01TXTRecordName()), challenge.DNS01KeyAuthorization()
	waiting := append(u.secondaries(ctx, name), u.Server)
	ticker := time.NewTicker(propagationLook)
	defer ticker.Stop()
	for {
		var missing []string
		for _, server := range waiting {
			if has, err := u.hasRecord(ctx, server, name, want); err == nil && !has {
				missing = append(missing, server)
			}
		}
		if waiting = missing; len(waiting) == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil
			}
			return ctx.Err()
		}
	}
}

// secondaries returns the addresses of the zone's name servers that can be found.
func (u DNSUpdate) secondaries(ctx context.Context, name string) (servers []string) {
	zone, err := u.zone(ctx, name)
	if err != nil {
		return nil
	}
	answer, err := u.exchange(ctx, u.Server, new(dns.Msg).SetQuestion(zone, dns.TypeNS))
	if err != nil {
		return nil
	}
	for _, record := range answer.Answer {
		if ns, ok := record.(*dns.NS); ok {
			addresses, _ := net.DefaultResolver.LookupHost(ctx, ns.Ns)
			for _, address := range addresses {
				servers = append(servers, net.JoinHostPort(address, "53"))
			}
		}
	}
	return servers
}

// hasRecord queries one name server.
func (u DNSUpdate) hasRecord(ctx context.Context, server, name, want string) (bool, error) {
	answer, err := u.exchange(ctx, server, new(dns.Msg).SetQuestion(name, dns.TypeTXT))
	if err != nil {
		return false, err
	}
	for _, record := range answer.Answer {
		if txt, ok := record.(*dns.TXT); ok && strings.Join(txt.Txt, "") == want {
			return true, nil
		}
	}
	return false, nil
}
