package rough

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/party"
	"github.com/mailturn/mailturn/imapext/discovery"
	"github.com/pion/turn/v5"
)

// route is a way from a client to the relay: its address as the client knows it, and the transport: udp, tcp or tls.
type route struct{ address, transport string }

func (r route) String() string { return fmt.Sprintf("%s to %s", r.transport, r.address) }

// resolver stands for the DNS, or for DNS64 where the relay's address is a translated one.
type resolver []netip.Addr

func (r resolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { return r, nil }

// credential asks over IMAP for the relay, as Delta Chat core does, from the client's network and by the given address of the
// relay. It returns the relay with a URL for each route.
func (h *home) credential(ctx context.Context, routes ...route) (party.Server, error) {
	raw, err := h.client.dial(ctx, "tcp", net.JoinHostPort(routes[0].address, fmt.Sprint(imapPort)))
	if err != nil {
		return party.Server{}, err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{ServerName: routes[0].address})
	client, err := discovery.NewClient(ctx, conn)
	if err != nil {
		return party.Server{}, err
	}
	if _, err := client.LogIn(ctx, discovery.Credentials{Username: h.user(), Password: password}); err != nil {
		return party.Server{}, err
	}
	entries, err := client.GetMetadata(ctx, []string{discovery.TURNEntry, discovery.TURNSEntry})
	if err != nil {
		return party.Server{}, err
	}
	var s party.Server
	for _, entry := range entries {
		value, err := discovery.ParseValue(entry.Value.Octets())
		if err != nil {
			return party.Server{}, err
		}
		for _, r := range routes {
			if (r.transport == "tls") != (entry.Name == discovery.TURNSEntry) {
				continue
			}
			resolved, failed := discovery.Resolve(ctx, resolver{netip.MustParseAddr(r.address)}, []discovery.Server{value.Server()})
			if len(failed) != 0 {
				return party.Server{}, errors.Join(failed...)
			}
			s.Username, s.Credential = resolved[0].Username, resolved[0].Credential
			switch url := resolved[0].URLs[0]; r.transport {
			case "tls":
				s.URLs = append(s.URLs, strings.Replace(url, "turn:", "turns:", 1)+"?transport=tcp")
			default:
				s.URLs = append(s.URLs, url+"?transport="+r.transport)
			}
		}
	}
	if len(s.URLs) != len(routes) {
		return party.Server{}, fmt.Errorf("the URLs %q, want one for each of %v", s.URLs, routes)
	}
	return s, nil
}

// allocate has the relay give a relayed address to the client, over UDP or TCP, and gives it back.
func (h *home) allocate(ctx context.Context, r route, s party.Server) error {
	config := turn.ClientConfig{
		TURNServerAddr: net.JoinHostPort(r.address, fmt.Sprint(plainPort)), STUNServerAddr: net.JoinHostPort(r.address, fmt.Sprint(plainPort)),
		Username: s.Username, Password: s.Credential, RTO: 100 * time.Millisecond,
		RequestedAddressFamily: turn.RequestedAddressFamilyIPv4,
	}
	err := h.client.do(func() (err error) {
		if r.transport == "udp" {
			config.Conn, err = net.ListenPacket("udp", ":0")
			return err
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", config.TURNServerAddr)
		if err == nil {
			config.Conn = turn.NewSTUNConn(conn)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer config.Conn.Close()
	client, err := turn.NewClient(&config)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		return err
	}
	relayed, err := client.AllocateWithContext(ctx)
	if err != nil {
		return err
	}
	return relayed.Close()
}
