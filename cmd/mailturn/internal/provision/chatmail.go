package provision

import (
	"net/netip"
	"strings"
)

// chatmailINI is the configuration of a chatmail relay. Every "cmdeploy run" overwrites it with that of the deploying machine.
const chatmailINI = "/usr/local/lib/chatmaild/chatmail.ini"

// A Chatmail is a chatmail relay, whose Dovecot keeps its ports.
type Chatmail struct {
	Domain     string // mail_domain: a name or an address, possibly in brackets
	INI        string // the text of chatmailINI
	TURNSocket string // turn_socket_path; empty for the default
}

// lookChatmail returns nil if the machine is not a chatmail relay.
func (m *Machine) lookChatmail() *Chatmail {
	if !m.exists("/etc/systemd/system/chatmail-metadata.service") && !m.exists(chatmailINI) {
		return nil
	}
	c := &Chatmail{INI: m.text(chatmailINI)}
	for line := range strings.Lines(c.INI) {
		name, value, _ := strings.Cut(line, "=")
		switch strings.TrimSpace(name) {
		case "mail_domain":
			c.Domain = strings.TrimSpace(value)
		case "turn_socket_path":
			c.TURNSocket = strings.TrimSpace(value)
		}
	}
	return c
}

// nameless reports whether the relay has an address but no name.
func (c *Chatmail) nameless() bool {
	_, err := netip.ParseAddr(strings.Trim(c.Domain, "[]"))
	return err == nil
}
