package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/mailturn/mailturn/endpoint/issuer"
)

// An externalService is what an XMPP server tells its users about the relay (XEP-0215 section 3.1).
type externalService struct {
	kind      string // stun, turn or turns
	host      string
	port      uint16
	transport string // udp or tcp
}

// externalServices returns those of a relay: STUN over UDP, and each way to relay.
func externalServices(relay issuer.Config) (all []externalService) {
	if relay.UDPPort != 0 {
		all = append(all, externalService{"stun", relay.Server.V, relay.UDPPort, "udp"})
	}
	for _, server := range relay.Servers() {
		s := externalService{"turn", relay.Server.V, server.Port, server.Transport}
		if s.transport == "tls" {
			s.kind, s.transport = "turns", "tcp"
		}
		all = append(all, s)
	}
	return all
}

// exportProsody uses external_services, as Jitsi Meet does. With turn_external_tls_port, the simpler setting of Prosody, there is
// no password for turns (seen with 0.12.3).
func exportProsody(w io.Writer, s *setup) error {
	relays, err := s.advertised()
	if err != nil {
		return err
	}
	fmt.Fprint(w, "-- Above the first VirtualHost, with \"external_services\" in modules_enabled. Jitsi Meet already has this setting: replace it.\nexternal_services = {\n")
	for _, relay := range relays {
		for _, s := range externalServices(relay) {
			fmt.Fprintf(w, "  { type = %s, host = %s, port = %d, transport = %s", luaQuoted(s.kind), luaQuoted(s.host), s.port, luaQuoted(s.transport))
			if s.kind != "stun" {
				fmt.Fprintf(w, ", secret = %s, ttl = %d, algorithm = \"turn\"", luaQuoted(string(relay.Secrets.V[0].Bytes())), int(relay.TTL.V.Seconds()))
			}
			fmt.Fprint(w, " };\n")
		}
	}
	fmt.Fprint(w, "}\n")
	return nil
}

// luaQuoted is a string as Lua has it.
func luaQuoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func exportEjabberd(w io.Writer, s *setup) error {
	relays, secret, err := s.advertisedWithOneSecret("ejabberd")
	if err != nil {
		return err
	}
	fmt.Fprint(w, "  # In place of \"mod_stun_disco: {}\" among the modules, with no listener ejabberd_stun on the relay's ports.\n  mod_stun_disco:\n")
	fmt.Fprintf(w, "    secret: %s\n    credentials_lifetime: %d # seconds\n    offer_local_services: false\n    services:\n", quoted(secret), int(relays[0].TTL.V.Seconds()))
	for _, relay := range relays {
		for _, s := range externalServices(relay) {
			fmt.Fprintf(w, "      - host: %s\n        port: %d\n        type: %s\n        transport: %s\n", quoted(s.host), s.port, s.kind, s.transport)
		}
	}
	return nil
}
