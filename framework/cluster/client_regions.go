package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config"
)

// Limits of a file of client networks.
const (
	maxNetworks       = 500_000
	maxRegions        = 1000
	maxNetworksFile   = 32 << 20 // bytes
	maxNetworkLine    = 512      // bytes
	networkLineFormat = "NETWORK REGION, such as 192.0.2.0/24 eu"
)

// clientRegions is a table of networks with the regions of the clients in them. The zero value knows no network.
type clientRegions struct {
	regions []string
	// networks are indexes of regions, by network. Of those that contain an address, the longest prefix counts.
	networks map[netip.Prefix]uint16
	// lengths are the lengths of the prefixes in networks, in descending order of length, for IPv4 and IPv6.
	ipv4, ipv6 []int
}

// readClientRegions reads the file that client_regions names, if it is set.
func readClientRegions(v config.Value[string]) (table clientRegions, diags hcl.Diagnostics) {
	path := config.Path(v)
	if path == "" {
		return table, nil
	}
	text, _, err := bounded.ReadFile(path, maxNetworksFile)
	if err != nil {
		diag := config.Errorf(v.Range, "Client regions cannot be read", "%v.", err)
		if errors.Is(err, fs.ErrPermission) {
			config.WithHint(diag, "make the file readable by the user that runs mailturn")
		}
		return table, hcl.Diagnostics{diag}
	}
	if table, err = parseClientRegions(string(text)); err != nil {
		return table, hcl.Diagnostics{config.Errorf(v.Range, "Invalid file of client regions", "%s:%v.", path, err)}
	}
	return table, nil
}

// parseClientRegions parses lines with a network and a region, as in a map of HAProxy. Empty lines and those that begin with # are
// skipped. Errors begin with the number of the line.
func parseClientRegions(text string) (t clientRegions, err error) {
	t.networks = make(map[netip.Prefix]uint16)
	known := make(map[string]uint16)
	var lengths4, lengths6 [129]bool
	number := 0
	for line := range strings.Lines(text) {
		number++
		if len(line) > maxNetworkLine {
			return t, fmt.Errorf("%d: the line is longer than %d bytes: want %s", number, maxNetworkLine, networkLineFormat)
		}
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 {
			return t, fmt.Errorf("%d: the line has %d words: want %s", number, len(fields), networkLineFormat)
		}
		network, err := parseNetwork(fields[0])
		if err != nil {
			return t, fmt.Errorf("%d: %w", number, err)
		}
		region, exists := known[fields[1]]
		switch _, twice := t.networks[network]; {
		case twice:
			return t, fmt.Errorf("%d: %v has a region already", number, network)
		case len(t.networks) == maxNetworks:
			return t, fmt.Errorf("%d: there are more than %d networks", number, maxNetworks)
		case len(fields[1]) > maxName:
			return t, fmt.Errorf("%d: the region has %d bytes, and may have %d", number, len(fields[1]), maxName)
		case !exists && len(t.regions) == maxRegions:
			return t, fmt.Errorf("%d: there are more than %d regions", number, maxRegions)
		case !exists:
			region = uint16(len(t.regions))
			known[fields[1]] = region
			t.regions = append(t.regions, fields[1])
		}
		t.networks[network] = region
		if network.Addr().Is4() {
			lengths4[network.Bits()] = true
		} else {
			lengths6[network.Bits()] = true
		}
	}
	for bits := 128; bits >= 0; bits-- {
		if lengths4[bits] {
			t.ipv4 = append(t.ipv4, bits)
		}
		if lengths6[bits] {
			t.ipv6 = append(t.ipv6, bits)
		}
	}
	return t, nil
}

// parseNetwork parses a network, or an address, which is a network of its own.
func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return network, fmt.Errorf("%q is not a network: want %s", text, networkLineFormat)
	case network.Addr().Is4In6():
		return network, fmt.Errorf("%v contains IPv4 addresses: write them as IPv4", network)
	case network != network.Masked():
		return network, fmt.Errorf("%v has bits after its prefix: did you mean %v?", network, network.Masked())
	}
	return network, nil
}

// of returns the region of a client, empty if the table does not know its network.
func (t clientRegions) of(client netip.Addr) string {
	client = client.Unmap().WithZone("")
	lengths := t.ipv6
	if client.Is4() {
		lengths = t.ipv4
	}
	for _, bits := range lengths {
		network, err := client.Prefix(bits)
		if err != nil { // no address
			return ""
		}
		if region, found := t.networks[network]; found {
			return t.regions[region]
		}
	}
	return ""
}
