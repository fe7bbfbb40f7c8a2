package provision

import (
	"path"
	"regexp"

	"github.com/mailturn/mailturn/dist"
)

const (
	turnSocket     = "/run/mailturn/turn.socket"
	dictSocket     = "/run/mailturn/dict.socket"
	chatmailDict   = "/run/chatmail-metadata/metadata.socket"
	chatmailGroup  = "vmail"
	includingConf  = "/etc/mailturn/dovecot.conf"
	metadataUnit   = "chatmail-metadata.service"
	turnserverUnit = "turnserver.service"
)

// chatmailFile returns a drop-in for a unit of a chatmail relay.
func chatmailFile(name string) File {
	text, err := dist.Chatmail.ReadFile(path.Join("chatmail", name))
	if err != nil {
		panic(err) // it is part of the program
	}
	return File{Path: path.Join(systemUnits, name), Text: string(text), Mode: 0o644, Group: -1}
}

// planChatmail replaces chatmail-turn by mailturn. Dovecot keeps its ports.
func (p *planner) planChatmail() {
	p.planCertificate()
	p.planChatmailRelay()
	if p.Chatmail.nameless() {
		p.planChatmailDict()
		return
	}
	const key = "turn_socket_path = " + turnSocket + "\n"
	text := regexp.MustCompile(`(?m)^\s*turn_socket_path\s*=.*\n?`).ReplaceAllString(p.Chatmail.INI, key)
	if p.Chatmail.TURNSocket == "" {
		text = regexp.MustCompile(`(?m)^\s*mail_domain\s*=.*\n`).ReplaceAllString(p.Chatmail.INI, "${0}"+key)
	}
	restart := []string{"systemctl", "restart", metadataUnit}
	p.Steps = append(p.Steps, Step{
		Title:    "chatmail's metadata daemon asks mailturn",
		Files:    []File{{Path: chatmailINI, Text: text, Mode: 0o644, Group: -1}},
		Do:       []Action{run(restart...)},
		UndoLast: [][]string{restart},
	})
	p.note("In chatmail.ini on the machine that you deploy from, set turn_socket_path = " + turnSocket + " before the next \"cmdeploy run\", which writes this relay's file again.")
}

// planChatmailRelay stops chatmail-turn and starts mailturn on its port, 3478, which chatmail tells its clients.
func (p *planner) planChatmailRelay() {
	door := "\n# chatmail's metadata daemon asks here.\nendpoint \"credsock\" \"chatmail\" {\n  path  = \"" + turnSocket + "\"\n  group = \"" + chatmailGroup + "\"\n}\n"
	if p.Chatmail.nameless() {
		door = "\n# Dovecot asks here, and mailturn asks chatmail's metadata daemon for all other keys.\nendpoint \"dict\" \"dovecot\" {\n  path  = \"" +
			dictSocket + "\"\n  group = \"" + chatmailGroup + "\"\n  next  = \"" + chatmailDict + "\"\n}\n"
	}
	p.planStart(p.relayConfiguration()+door, nil)
	step := &p.Steps[len(p.Steps)-1]
	step.Title = "mailturn takes the place of chatmail-turn"
	step.Files = append(step.Files, chatmailFile("mailturn.service.d/chatmail.conf"), chatmailFile("turnserver.service.d/mailturn.conf"))
	step.Do = append([]Action{step.Do[0], run("systemctl", "daemon-reload"), run("systemctl", "stop", turnserverUnit)}, step.Do[1:]...)
	step.UndoLast = [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "start", turnserverUnit}}
	p.decide("mailturn takes port 3478 over from chatmail-turn", "chatmail tells its clients that port, whatever listens there")
}

// planChatmailDict makes Dovecot ask mailturn directly, because the metadata daemon of a relay without a name tells clients an
// address in brackets, which they cannot use.
func (p *planner) planChatmailDict() {
	text := "!include /etc/dovecot/dovecot.conf\nmail_attribute_dict = proxy:" + dictSocket + ":metadata\n"
	restart := [][]string{{"systemctl", "daemon-reload"}, {"systemctl", "restart", metadataUnit}, {"systemctl", "restart", "dovecot.service"}}
	step := Step{
		Title: "Dovecot asks mailturn for METADATA",
		Files: []File{
			{Path: includingConf, Text: text, Mode: 0o644, Group: -1},
			chatmailFile("chatmail-metadata.service.d/mailturn.conf"), chatmailFile("dovecot.service.d/mailturn.conf"),
		},
		Do:       []Action{run("doveconf", "-c", includingConf, "-n")},
		UndoLast: restart,
	}
	for _, argv := range restart {
		step.Do = append(step.Do, run(argv...))
	}
	p.Greets, p.Repair = []Greeting{{loopback + ":993", true}}, restart[2]
	step.Do = append(step.Do, awaitGreeting(p.Greets[0], ""))
	p.Steps = append(p.Steps, step)
	p.decide("Dovecot asks mailturn itself", "this relay has no name, and its metadata daemon would tell clients an address that they cannot use")
}
