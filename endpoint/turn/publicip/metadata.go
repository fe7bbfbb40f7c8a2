package publicip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// metadataServer is where clouds answer the machines that they run.
const metadataServer = "http://169.254.169.254"

// maxMetadata limits an answer, in bytes. IPv6 addresses of a machine may be several lines.
const maxMetadata = 4 << 10

// question is one that a cloud answers with addresses, one on each line, which may have a prefix length.
type question struct {
	path, header, value string
}

// questions are asked of every cloud: most of them answer one with an address, and the others with an error.
var questions = []question{
	// Amazon EC2, and clouds that imitate it, such as OpenStack.
	{"/latest/meta-data/public-ipv4", tokenHeader, ""},
	{"/latest/meta-data/ipv6", tokenHeader, ""},
	// Google Compute Engine.
	{"/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip", "Metadata-Flavor", "Google"},
	{"/computeMetadata/v1/instance/network-interfaces/0/ipv6s", "Metadata-Flavor", "Google"},
	// Microsoft Azure.
	{"/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text", "Metadata", "true"},
	// Hetzner.
	{"/hetzner/v1/metadata/public-ipv4", "", ""},
	// DigitalOcean.
	{"/metadata/v1/interfaces/public/0/ipv4/address", "", ""},
	{"/metadata/v1/interfaces/public/0/ipv6/address", "", ""},
}

// tokenHeader carries the token of EC2's second version, which other clouds ignore.
const tokenHeader = "X-aws-ec2-metadata-token"

// askMetadata asks the cloud for the addresses of this machine.
func askMetadata(ctx context.Context, server string) (addrs []netip.Addr, err error) {
	transport := &http.Transport{DialContext: new(net.Dialer).DialContext} // without a proxy
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	token, err := get(ctx, client, http.MethodPut, server+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if err != nil && !errors.Is(err, errRefused) { // it would not answer the other questions either
		return nil, err
	}
	if token = strings.TrimSpace(token); !isToken(token) {
		token = ""
	}
	for _, q := range questions {
		if q.header == tokenHeader {
			q.value = token
		}
		text, err := get(ctx, client, http.MethodGet, server+q.path, q.header, q.value)
		if errors.Is(err, errRefused) {
			continue
		}
		if err != nil {
			return addrs, err
		}
		for field := range strings.FieldsSeq(text) {
			address, _, _ := strings.Cut(field, "/")
			if addr, err := netip.ParseAddr(address); err == nil {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs, nil
}

// isToken reports whether text may stand in a header.
func isToken(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// errRefused is the error for an answer other than 200.
var errRefused = errors.New("refused")

// get makes a request with a header, unless its name or value is empty, and returns the answer.
func get(ctx context.Context, client *http.Client, method, url, header, value string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	if header != "" && value != "" {
		request.Header.Set(header, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%w: %s", errRefused, response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxMetadata))
	return string(text), err
}
