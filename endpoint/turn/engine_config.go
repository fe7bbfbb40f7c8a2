package turn

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// EngineName is the value of engine.
type EngineName string

// Engines.
const (
	Mailturn EngineName = "mailturn" // package turnsrv, in this process
	Pion     EngineName = "pion"     // package turnsrv/pionturn, in a process of its own: see package endpoint/turn/pion
)

// UnmarshalText accepts one of two words.
func (n *EngineName) UnmarshalText(text []byte) error {
	switch name := EngineName(text); name {
	case Mailturn, Pion:
		*n = name
		return nil
	}
	return fmt.Errorf("want %q or %q", Mailturn, Pion)
}

// pionInstead returns what pion does instead of what an attribute requests, by name. It honors the others.
func pionInstead() map[string]string {
	return map[string]string{
		"default_family":       "has relayed addresses of one family",
		"drain_timeout":        "ends calls immediately when it is asked to stop",
		"gather":               "sends each packet when it arrives",
		"kernel_path":          "relays everything itself",
		"log_guesses":          "does not log wrong passwords",
		"max_bps":              "does not limit bandwidth",
		"max_channels":         "does not limit channels",
		"max_guesses":          "answers every wrong password",
		"max_lifetime":         "grants lifetimes of up to an hour",
		"max_permissions":      "does not limit permissions",
		"max_pps":              "does not limit packets",
		"nonce_lifetime":       "accepts a nonce for an hour",
		"peers.silent_bytes":   "does not limit what is sent to a peer",
		"relay_ip_from":        "uses the address with which this machine sends to the internet when it starts",
		"software":             "sends no SOFTWARE",
		"strict_channels":      "accepts every channel number",
		"total_bps":            "does not limit bandwidth",
		"udp_gro":              "receives each packet separately",
		"udp_segment":          "sends each packet separately",
		"unauthenticated_rate": "answers every request",
		"user_calls":           "does not count calls",
		"user_bytes_per_day":   "does not count what a user relays",
		"user_pps":             "does not limit packets",
		"user_realm":           "has one realm",
		"workers":              "has one goroutine for each socket",
	}
}

// checkPion reports the attributes that the endpoint sets and pion cannot honor.
func checkPion(endpoint config.Endpoint, s Schema) (diags hcl.Diagnostics) {
	refuse := func(rng hcl.Range, name, instead string) {
		diags = append(diags, config.WithHint(config.Errorf(rng, "Not possible with pion", "%s: engine = %q %s.", name, Pion, instead),
			fmt.Sprintf("remove it, or use engine = %q", Mailturn)))
	}
	instead := pionInstead()
	for _, set := range endpoint.Set(s) {
		if does, ok := instead[set.Name]; ok {
			refuse(set.Range, set.Name, does)
		}
	}
	for i, address := range s.Listen.V {
		if address.Scheme == "dtls" {
			refuse(s.Listen.At(i), address.String(), "serves no DTLS")
		}
	}
	if len(s.RelayIP.V) > 1 {
		refuse(s.RelayIP.At(1), "relay_ip "+s.RelayIP.V[1].Addr.String(), "relays from one address")
	}
	return diags
}
