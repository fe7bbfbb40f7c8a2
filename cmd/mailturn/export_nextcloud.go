package main

import (
	"fmt"
	"io"
)

// exportNextcloud writes commands, because Nextcloud keeps the settings of Talk in its database. An entry has one port for all of
// its schemes and protocols.
func exportNextcloud(w io.Writer, s *setup) error {
	relays, err := s.advertised()
	if err != nil {
		return err
	}
	fmt.Fprint(w, "# In the directory of Nextcloud, as the user of its web server. The secret is kept in Nextcloud's database.\n")
	for _, relay := range relays {
		for _, server := range relay.Servers() {
			scheme, protocol := "turn", server.Transport
			switch {
			case protocol == "tls":
				scheme, protocol = "turns", "tcp"
			case relay.UDPPort == relay.TCPPort && protocol == "tcp":
				continue // with UDP
			case relay.UDPPort == relay.TCPPort:
				protocol = "udp,tcp"
			}
			fmt.Fprintf(w, "php occ talk:turn:add --secret=%s -- %s %s:%d %s\n", shellQuoted(string(relay.Secrets.V[0].Bytes())), scheme, relay.Server.V, server.Port, protocol)
		}
	}
	return nil
}
