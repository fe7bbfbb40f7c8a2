package e2e

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// A scriptWriter writes a script command by command.
type scriptWriter struct {
	script script
	// pipeline is how many commands are sent at once.
	pipeline int
	// ordered keeps commands that change something, wait, or have literals out of pipelines: Dovecot answers what is sent
	// together with them in an order that depends on what comes in one packet.
	ordered bool
	// sync makes all literals synchronising ones: mailturn does so towards Dovecot, which runs some of the others as commands.
	sync bool

	tags     int
	step     step
	commands int // in the step
}

// command adds a command without its tag: the first part to its first synchronising literal's announcement, and each
// further one what follows when the server has granted that. The line end is added.
func (w *scriptWriter) command(parts ...string) {
	w.tags++
	tag := fmt.Sprintf("t%03d", w.tags)
	parts[len(parts)-1] += "\r\n"
	w.step.send += tag + " " + parts[0]
	for _, part := range parts[1:] {
		// Dovecot keeps the answers to the commands before it back.
		await := w.step.await
		w.step.plus, w.step.await = tag, nil
		w.flush()
		w.step.granted, w.step.await = part, await
	}
	w.step.await = append(w.step.await, tag+" ")
	if w.commands++; w.commands >= w.pipeline {
		w.flush()
	}
}

// flush ends a step.
func (w *scriptWriter) flush() {
	if w.step.granted+w.step.send == "" {
		return
	}
	w.script = append(w.script, w.step)
	w.step = step{}
	w.commands = 0
}

// change adds a command that ordered keeps out of pipelines.
func (w *scriptWriter) change(parts ...string) {
	if w.ordered {
		w.flush()
	}
	w.command(parts...)
	if w.ordered {
		w.flush()
	}
}

// alone adds a command that nothing is pipelined with.
func (w *scriptWriter) alone(parts ...string) {
	w.flush()
	w.command(parts...)
	w.flush()
}

// saslPlain is the response of PLAIN (RFC 4616) in base64.
func saslPlain(user string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + dovecot.Password))
}

// octets makes message bodies that are likely to be mistaken for something else, of all bytes except NUL and CR; binary ones may
// contain NUL.
func octets(r *rand.Rand, n int, binary bool) string {
	var b strings.Builder
	for b.Len() < n {
		switch r.IntN(12) {
		case 0:
			b.WriteString("\r\nt001 OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] Logged in\r\n")
		case 1:
			b.WriteString("\r\n* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN\r\n")
		case 2:
			b.WriteString("\r\nt002 GETMETADATA \"\" /shared/comment\r\n")
		case 3:
			b.WriteString(" {5}\r\n")
		case 4:
			b.WriteString("\r\n+ OK\r\n* METADATA \"\" (/shared/comment \"x\")\r\n")
		case 5:
			b.WriteString("\n")
		default:
			for range 20 {
				c := byte(1 + r.IntN(255))
				if binary {
					c--
				} else if c == '\r' {
					c = ' '
				}
				b.WriteByte(c)
			}
		}
	}
	return b.String()[:n]
}

// message makes a message of about n bytes.
func message(r *rand.Rand, n int) string {
	return fmt.Sprintf("From: <a%d@example.org>\r\nSubject: %d {3}\r\nDate: Tue, 1 Jul 2025 10:00:00 +0000\r\nMessage-ID: <%d@example.org>\r\n\r\n%s",
		r.IntN(100), r.IntN(1000), r.Uint64(), octets(r, n, false))
}

// literal adds text as a literal of a random form to the parts of a command, of which the last goes on in front of it.
func (w *scriptWriter) literal(r *rand.Rand, parts []string, prefix, text string) []string {
	last := len(parts) - 1
	end := "\r\n"
	if r.IntN(6) == 0 {
		end = "\n"
	}
	if r.IntN(2) == 0 && !w.sync {
		parts[last] += fmt.Sprintf("%s{%d+}%s%s", prefix, len(text), end, text)
		return parts
	}
	parts[last] += fmt.Sprintf("%s{%d}%s", prefix, len(text), end)
	return append(parts, text)
}

// appendCommand is APPEND to mailbox of one message or, with MULTIAPPEND, of two.
func (w *scriptWriter) appendCommand(r *rand.Rand, mailbox string, size int) []string {
	parts := []string{"APPEND " + mailbox}
	if r.IntN(3) == 0 {
		parts[0] = "APPEND "
		parts = w.literal(r, parts, "", mailbox)
	}
	for range 1 + r.IntN(2) {
		parts[len(parts)-1] += ` (\Seen $Label) "01-Jul-2025 10:00:00 +0000" `
		if r.IntN(4) == 0 {
			text := "Subject: binary\r\nContent-Transfer-Encoding: binary\r\n\r\n" + octets(r, size, true)
			parts = w.literal(r, parts, "~", text)
		} else {
			parts = w.literal(r, parts, "", message(r, size))
		}
	}
	return parts
}

// random is a session of about n random commands by user. The same seed makes the same script for every user.
func (w *scriptWriter) random(seed uint64, user string, n int) script {
	r := rand.New(rand.NewPCG(seed, 2))
	randomLogin(r, w, user)
	w.change(w.appendCommand(r, "INBOX", 200)...)
	w.change("CREATE Archive")
	w.change("SELECT INBOX")
	for range n {
		randomCommand(r, w)
	}
	w.alone("LOGOUT")
	return w.script
}

func randomLogin(r *rand.Rand, w *scriptWriter, user string) {
	if r.IntN(2) == 0 {
		w.command("CAPABILITY")
	}
	// Before login, Dovecot 2.3 may take an ID whose list comes in two reads for one that lacks its end.
	if r.IntN(2) == 0 && !w.ordered {
		w.command(`ID ("name" "test" "version" NIL)`)
	}
	switch r.IntN(5) {
	case 0:
		w.alone(`LOGIN ` + user + ` wrong`)
		w.alone(`LOGIN ` + user + ` "` + dovecot.Password + `"`)
	case 1:
		parts := w.literal(r, []string{"LOGIN "}, "", user)
		parts[len(parts)-1] += " "
		w.alone(w.literal(r, parts, "", dovecot.Password)...)
	case 2:
		w.alone("AUTHENTICATE PLAIN " + saslPlain(user))
	case 3:
		w.alone("AUTHENTICATE PLAIN\r\n", saslPlain(user))
	case 4:
		w.alone("AUTHENTICATE LOGIN\r\n", base64.StdEncoding.EncodeToString([]byte(user))+"\r\n",
			base64.StdEncoding.EncodeToString([]byte(dovecot.Password)))
	}
}

// randomCommand adds a command of a client that has selected a mailbox.
func randomCommand(r *rand.Rand, w *scriptWriter) {
	mailboxes := []string{"INBOX", "Archive", `"Archive"`, "inbox"}
	mailbox := mailboxes[r.IntN(len(mailboxes))]
	switch r.IntN(27) {
	case 0:
		w.change("NOOP")
	case 1:
		w.command("CAPABILITY")
	case 2:
		w.command(`LIST "" *`)
	case 3:
		parts := w.literal(r, []string{`LIST "" `}, "", "%")
		parts[len(parts)-1] += " RETURN (CHILDREN STATUS (MESSAGES UIDNEXT))"
		w.change(parts...)
	case 4:
		w.change("STATUS " + mailbox + " (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)")
	case 5:
		w.change("SELECT INBOX")
	case 6:
		w.command("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
	case 7, 8, 9:
		w.command("FETCH 1:* (UID BODY.PEEK[])")
	case 10:
		w.command(fmt.Sprintf("UID FETCH 1:* (BODY.PEEK[TEXT]<%d.%d> BODY.PEEK[HEADER])", r.IntN(50), 1+r.IntN(500)))
	case 11:
		w.command("FETCH 1 (BINARY.PEEK[] BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
	case 12:
		w.change(`STORE 1 +FLAGS (\Flagged)`)
	case 13:
		w.change(w.literal(r, []string{"SEARCH CHARSET UTF-8 SUBJECT "}, "", "grüße")...)
	case 14:
		w.command("UID SEARCH RETURN (MIN MAX ALL) ALL")
	case 15, 16, 17:
		w.change(w.appendCommand(r, mailbox, r.IntN(2000))...)
	case 18:
		w.change("COPY 1 Archive")
	case 19:
		w.command("NAMESPACE")
	case 20:
		w.command("SORT (SUBJECT) UTF-8 ALL")
	case 21:
		w.command("THREAD REFERENCES UTF-8 ALL")
	case 22: // errors
		errors := []string{"NONSENSE with arguments", "FETCH", "STATUS (", "SELECT Nowhere", "UID NONSENSE", "FETCH 1 BODY[", "STORE 1 FLAGS {", "UNAUTHENTICATE"}
		w.command(errors[r.IntN(len(errors))])
	case 23:
		// Synchronised, as Dovecot runs the other kind as commands: see TestSmuggling.
		text := octets(r, r.IntN(100), false)
		w.alone(fmt.Sprintf("NONSENSE {%d}\r\n", len(text)), text)
	case 24:
		w.alone("ENABLE CONDSTORE UTF8=ACCEPT")
	case 25:
		w.change(`ID ("name" "test" "version" NIL)`)
	case 26:
		w.alone("IDLE\r\n", "DONE")
	}
}
