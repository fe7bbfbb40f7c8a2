package main

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/mailturn/mailturn/dist"
	"github.com/mailturn/mailturn/endpoint/dict"
	"github.com/mailturn/mailturn/framework/listen"
)

// chatmailPort is the port of the TURN server that chatmail's metadata daemon always tells clients.
const chatmailPort = 3478

// exportChatmail writes commands for a chatmail relay that has chatmail's own units: to install drop-ins, and with an endpoint
// "dict" to have Dovecot ask it.
func exportChatmail(w io.Writer, s *setup) error {
	for _, server := range s.imaps {
		if i := slices.IndexFunc(server.Listen, isCmdeployPort); i >= 0 {
			return fmt.Errorf(`endpoint "imap" listens on %s: cmdeploy requires Dovecot on ports 143 and 993 and aborts otherwise. Remove the endpoint: chatmail uses a credsock or dict endpoint`, server.Listen[i])
		}
	}
	const another = `endpoint %q listens on %s: cmdeploy requires chatmail's own program on that port and aborts otherwise. Use another port`
	for _, server := range s.http {
		if i := slices.IndexFunc(server.Listen, isCmdeployPort); i >= 0 {
			return fmt.Errorf(another, "http", server.Listen[i])
		}
	}
	for _, relay := range s.relays {
		if i := slices.IndexFunc(relay.Listen, isCmdeployPort); i >= 0 {
			return fmt.Errorf(another, "turn", relay.Listen[i])
		}
	}
	io.WriteString(w, "set -e\n")
	switch {
	case len(s.sockets) > 0:
		return exportChatmailCredsock(w, s)
	case len(s.dicts) > 0:
		return exportChatmailDict(w, s.dicts[0])
	default:
		return errors.New(`this configuration has neither an endpoint "credsock", which chatmail's metadata daemon would ask, nor an endpoint "dict", which Dovecot would: add one`)
	}
}

// isCmdeployPort reports whether "cmdeploy run" aborts if a program other than chatmail's listens there: on these ports, and only
// over TCP (cmdeploy/src/cmdeploy/deployers.py of chatmail/relay 1.12).
func isCmdeployPort(a listen.Addr) bool {
	if a.Scheme == "udp" || a.Scheme == "dtls" {
		return false
	}
	switch a.Port {
	case 25, 53, 80, 143, 402, 443, 465, 587, 993, 3340, 3903, 3904, 8443, 10025, 10026, 10080, 10081, 10082, 10083:
		return true
	}
	return false
}

// exportChatmailCredsock is for a relay with a name: its metadata daemon puts the name before the port, 3478, and the credential.
func exportChatmailCredsock(w io.Writer, s *setup) error {
	if len(s.relays) > 0 && !slices.ContainsFunc(s.relays[0].Listen, func(a listen.Addr) bool { return a.Scheme == "udp" && a.Port == chatmailPort }) {
		return fmt.Errorf(`endpoint "turn" does not listen on UDP port %d, which chatmail tells its clients: add "udp://0.0.0.0:%[1]d" to listen`, chatmailPort)
	}
	fmt.Fprintf(w, "# In chatmail.ini, before the next \"cmdeploy run\":\n#   turn_socket_path = %s\n", s.sockets[0].Socket.Path)
	if err := writeDropIns(w, "turnserver.service.d/mailturn.conf", "mailturn.service.d/chatmail.conf"); err != nil {
		return err
	}
	io.WriteString(w, "systemctl daemon-reload\nsystemctl stop turnserver\nsystemctl restart mailturn\n")
	return nil
}

// exportChatmailDict is for every relay, and the only way for one that has only an IP address.
func exportChatmailDict(w io.Writer, door dict.Config) error {
	if door.Next == "" {
		return errors.New(`endpoint "dict" has no next: chatmail's metadata daemon has the other keys, such as push tokens. Add next = "/run/chatmail-metadata/metadata.socket"`)
	}
	fmt.Fprintf(w, "cat >/etc/mailturn/dovecot.conf <<'EOF'\n!include /etc/dovecot/dovecot.conf\nmail_attribute_dict = proxy:%s:metadata\nEOF\n", door.Socket.Path)
	if err := writeDropIns(w, "turnserver.service.d/mailturn.conf", "mailturn.service.d/chatmail.conf",
		"chatmail-metadata.service.d/mailturn.conf", "dovecot.service.d/mailturn.conf"); err != nil {
		return err
	}
	io.WriteString(w, "systemctl daemon-reload\nsystemctl stop turnserver\nsystemctl restart chatmail-metadata mailturn dovecot\n")
	return nil
}

// writeDropIns writes the commands that install drop-ins of dist/chatmail.
func writeDropIns(w io.Writer, names ...string) error {
	for _, name := range names {
		text, err := dist.Chatmail.ReadFile(path.Join("chatmail", name))
		if err != nil {
			return err
		}
		file := path.Join("/etc/systemd/system", name)
		fmt.Fprintf(w, "install -d %s\ncat >%s <<'EOF'\n%sEOF\n", path.Dir(file), file, text)
	}
	return nil
}
