package imapext

import (
	"fmt"
	"strings"
)

const (
	// maxSwallowed bounds a non-synchronising literal of a command that is refused here. Its client sends it anyway; if it is
	// longer than this, BYE is the better answer, which RFC 7888 section 4 allows.
	maxSwallowed = 1 << 20
)

// clientStream is the state of reading the client's stream.
//
//	                     ┌────────────── command's end ───────────────┐
//	                     ▼                                            │
//	commandBegin ──▶ commandRest ──{n}──▶ literalAnnounced ──▶ commandLiteral
//	     ▲               │      ◀──────────────────────────────────────┘
//	     │               ├──▶ exchange ◀──▶ exchangeLine     AUTHENTICATE and IDLE
//	     └───────────────┴──▶ decide ──▶ forward             commands that are read whole
type clientStream struct {
	state clientState
	mode  commandMode
	head  []byte // of the command line, until its name is complete
	tag   string
	name  string // in upper case
	line  commandLine
	text  int // bytes of the command that have been read, besides its literals
	held  int // bytes of the line's tail that were read before and are not passed

	literal   uint64 // what is left of the literal
	unasked   bool   // the literal is a non-synchronising one, which the client sends whatever the backend says
	collected []byte // of a command that is read whole: its arguments; of one that is forwarded, what is left of it
	set       setCommand
	answer    string // to a command that is discarded: the response, complete; empty if it has been given
	account   accountReader
}

type clientState byte

const (
	commandBegin     clientState = iota
	commandRest                  // in a line, after the command's name or a literal
	literalAnnounced             // to the backend, which has not granted it
	commandLiteral
	exchange     // the backend decides whether the next line continues the command
	exchangeLine // it does
	decide       // a command has been read whole
	forward      // and goes to the backend
	closed
)

// commandMode is what is done with a command's bytes.
type commandMode byte

const (
	pass    commandMode = iota
	collect             // for decide
	discard             // with an answer at its end
)

// FromClient consumes bytes from the client and returns how many, and what to do next. It appends to both queues; what it appends to the
// backend's may alias p. If it is called without bytes at the beginning, it sends what Options.Identify says as soon as it can, and not
// only when the client sends something.
func (f *Filter) FromClient(p []byte) (n int, event Event) {
	f.mu.Lock()
	defer f.unlock()
	f.answers = 0
	for n < len(p) || f.goesOn() {
		switch {
		case f.uncompress && f.gated && n < len(p): // compressed after the end of compression
			return n, f.close("Compression has ended")
		case f.uncompress && f.gated:
			f.uncompress = false
			return n, Uncompress
		case f.uncompress:
			f.waiting = true
			return n, Wait
		case len(f.inserts) >= f.bounds().answers:
			f.waiting = true
			return n, Wait
		case f.answers >= f.bounds().answers && n < len(p):
			return n, Continue
		}
		used, event := f.stepClient(p[n:])
		n += used
		if event == StartTLS {
			return len(p), StartTLS
		}
		if event != Continue {
			f.waiting = event == Wait
			return n, event
		}
	}
	return n, Continue
}

// goesOn reports whether FromClient has something to do, or to wait for, without bytes from the client. It waits after the
// announcement of a literal, so that the wait can be bounded, and after UNAUTHENTICATE with compression: only the answer tells how
// to read the client's next bytes.
func (f *Filter) goesOn() bool {
	c := &f.client
	return c.state == decide || c.state == forward || c.state == literalAnnounced || f.identifying || f.uncompress ||
		f.compressed && f.pending.kind == pendingUnauthenticate && c.state == commandBegin
}

func (f *Filter) stepClient(p []byte) (n int, event Event) {
	switch f.client.state {
	case commandBegin:
		return f.beginCommand(p)
	case commandRest:
		return f.readCommandRest(p)
	case literalAnnounced:
		return f.awaitLiteral()
	case commandLiteral:
		return f.readLiteral(p), Continue
	case exchange:
		return f.awaitExchange()
	case exchangeLine:
		return f.readExchangeLine(p)
	case decide:
		return 0, f.decideCommand()
	case forward:
		return 0, f.forwardParts()
	default:
		return len(p), Close
	}
}

// beginCommand reads the tag and the name of the next command and decides how to handle it.
func (f *Filter) beginCommand(p []byte) (n int, event Event) {
	if !f.greeted || f.pending.kind != pendingNone {
		return 0, Wait
	}
	if f.identifying {
		return 0, f.identify()
	}
	c := &f.client
	line := p
	if len(c.head) > 0 {
		line = append(c.head, p[:min(len(p), maxTag+maxCommandName+2)]...)
	}
	head, ok := readCommandHead(line)
	if !ok {
		c.head = append(c.head, p...)
		return len(p), Continue
	}
	if f.outstanding.has(head.tag) || len(f.outstanding.tags) >= f.bounds().outstanding {
		return 0, Wait
	}
	held := c.head
	c.head = nil
	c.state = commandRest
	c.line = commandLine{}
	c.text = 0
	c.set = setCommand{}
	c.tag = string(head.tag)
	c.name = strings.ToUpper(string(head.name))
	if head.refusal != "" {
		if c.tag == "" {
			c.tag = "*"
		}
		c.discard("%s", head.refusal)
		for _, b := range held {
			c.line.next(b)
		}
		return 0, Continue
	}
	f.beginKnownCommand()
	n = head.size - len(held)
	c.text = head.size
	if c.mode == pass {
		f.outstanding.add(c.tag)
		f.messages.command(c.tag, c.name)
		f.toBackend.add(held)
		f.toBackend.add(p[:n])
	}
	return n, Continue
}

// beginKnownCommand sets the mode of the command, and what its answer will mean.
func (f *Filter) beginKnownCommand() {
	c := &f.client
	c.mode = pass
	switch c.name {
	case "LOGIN", "AUTHENTICATE":
		if f.loginDisabled() {
			c.discard("NO [PRIVACYREQUIRED] TLS is required to log in")
			return
		}
		f.pending = pending{kind: pendingLogin, tag: c.tag}
		if c.name == "LOGIN" {
			c.account.login()
		} else {
			c.account.authenticate()
		}
	case "UNAUTHENTICATE":
		f.pending = pending{kind: pendingUnauthenticate, tag: c.tag}
	case "IDLE":
		f.pending = pending{kind: pendingIdle, tag: c.tag}
	case "STARTTLS", "COMPRESS", "ID":
		c.mode = collect
	case "GETMETADATA", "SETMETADATA":
		switch {
		case f.options.Entries == nil:
		case f.loggedIn:
			c.mode = collect
		default:
			c.discard("BAD Log in first")
		}
	case "ENABLE":
		if f.options.Entries != nil && f.loggedIn {
			c.mode = collect
		}
	}
}

// discard drops the rest of the command, and sends answer at its end.
func (c *clientStream) discard(format string, args ...any) {
	c.mode = discard
	c.collected = nil
	c.answer = c.tag + " " + fmt.Sprintf(format, args...) + "\r\n"
}

// readCommandRest continues to the end of a line.
func (f *Filter) readCommandRest(p []byte) (n int, event Event) {
	c := &f.client
	for i, b := range p {
		tail := c.line.tail()
		ends := c.line.next(b)
		if c.mode == pass {
			if c.text++; c.text > f.maxText() {
				return 0, f.close("Command is too long")
			}
			if c.line.disputed(ends) || ends && c.exchanges() && c.line.literal() != noLiteral {
				return 0, f.close("Malformed command line")
			}
			if tail != "" && (ends || len(c.line.tail()) <= len(tail)) {
				n = f.passTail(p, n, i, tail, ends && c.line.literal() == nonSynchronising)
			}
		}
		if !ends {
			continue
		}
		if c.line.overflow && c.line.literal() != noLiteral {
			return 0, f.close("Literal too large")
		}
		f.keepLine(p[n : i+1])
		return i + 1, f.endLine()
	}
	held := 0
	if c.mode == pass {
		tail := len(c.line.tail())
		held = tail - c.held // of p
		c.held = tail
	}
	f.keepLine(p[n : len(p)-held])
	return len(p), Continue
}

// maxText bounds the text of a command that passes.
func (f *Filter) maxText() int {
	if f.loggedIn {
		return maxCommandText
	}
	return maxLoginLine
}

// passTail passes the line's tail, which is at the end of p[:i] as far as it is not held from the reads before, and p[n:i] in
// front of it. With drop, which is for tails with "+", that goes nowhere: no backend is sent a literal that it has not asked
// for. Those with LITERAL+ should read the literals of commands that they refuse (RFC 7888 section 4). But Dovecot 2.3 leaves
// them in the stream, and runs their contents as commands, even after an APPEND whose date it cannot parse. It returns how far
// p has been passed.
func (f *Filter) passTail(p []byte, n, i int, tail string, drop bool) int {
	c := &f.client
	held := c.held
	c.held = 0
	start := i - (len(tail) - held) // in p: of what was not held
	if held == 0 && drop {
		f.keepLine(p[n:start])
		return start + 1
	}
	text := []byte(tail[:held])
	if drop {
		text = text[1:]
	}
	f.keepLine(text)
	return n
}

// keepLine handles b, bytes of the command's line, according to the command's mode.
func (f *Filter) keepLine(b []byte) {
	c := &f.client
	switch c.mode {
	case pass:
		f.toBackend.add(b)
		c.account.feed(b)
	case collect:
		if len(c.collected)+len(b) > f.bounds().command {
			f.refuse("BAD Command too long")
			return
		}
		c.collect(b)
	}
}

// endLine handles the end of a command's line, which ends the command unless it announces a literal.
func (f *Filter) endLine() Event {
	c := &f.client
	line := c.line
	c.line = commandLine{}
	kind := line.literal()
	if kind == noLiteral {
		return f.endCommand()
	}
	c.literal = line.size
	c.unasked = kind == nonSynchronising
	c.state = commandLiteral
	c.account.literal()
	switch c.mode {
	case pass:
		c.state = literalAnnounced
		f.plus.await(c.tag, c.unasked)
		if !f.outstanding.has([]byte(c.tag)) {
			f.plus.state = plusRefused
		}
	case collect:
		if f.streamsLiteral() {
			return Continue
		}
		if c.name == "STARTTLS" || c.name == "COMPRESS" || c.name == "ENABLE" {
			c.discard("BAD Literal not expected")
		} else if c.literal > uint64(f.bounds().command-len(c.collected)) {
			f.refuse("BAD Command too long")
		} else if !c.unasked {
			f.respond([]byte("+ Ready for literal data\r\n"))
		}
	}
	if c.mode == discard {
		return f.discardLiteral()
	}
	return Continue
}

// discardLiteral decides what to do with a literal that is announced in a command which is refused here.
func (f *Filter) discardLiteral() Event {
	c := &f.client
	c.state = commandLiteral
	switch {
	case !c.unasked: // refused by the tagged response (RFC 9051 section 4.3)
		return f.endCommand()
	case c.answer != "" && c.literal > maxSwallowed:
		return f.close("Literal too large")
	}
	return Continue
}

// awaitLiteral continues when the backend has granted or refused the literal.
func (f *Filter) awaitLiteral() (n int, event Event) {
	c := &f.client
	switch f.plus.take() {
	case plusGranted:
		c.state = commandLiteral
	case plusRefused:
		if c.unasked {
			// The client sends it anyway.
			c.mode = discard
			c.answer = ""
			c.state = commandLiteral
		} else {
			c.state = commandBegin
		}
	default:
		return 0, Wait
	}
	return 0, Continue
}

// AwaitsContinuation reports whether FromClient has returned Wait because the backend has to request what the client sends next, a
// literal or a line of AUTHENTICATE or IDLE, or to refuse it. Some backends do neither: Dovecot 2.3 does not if an APPEND has something
// other than flags or a date before the literal. Callers should limit that wait.
func (f *Filter) AwaitsContinuation() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting && f.plus.state == plusAwaited
}

// readLiteral reads the next bytes of a literal.
func (f *Filter) readLiteral(p []byte) int {
	c := &f.client
	n := int(min(uint64(len(p)), c.literal))
	switch c.mode {
	case pass:
		f.toBackend.add(p[:n])
		c.account.feed(p[:n])
		if c.set.streams {
			c.set.reader.Read(p[:n])
		}
	case collect:
		c.collect(p[:n])
	}
	if c.literal -= uint64(n); c.literal == 0 {
		c.account.literalEnd()
		c.state = commandRest
		c.endStreamedLiteral()
	}
	return n
}

// endCommand handles the end of a command.
func (f *Filter) endCommand() Event {
	c := &f.client
	c.state = commandBegin
	switch c.mode {
	case pass:
		if c.exchanges() {
			c.state = exchange
			f.plus.await(c.tag, false)
		}
	case collect:
		c.state = decide
	case discard:
		if c.answer != "" {
			f.respond([]byte(c.answer))
			c.answer = ""
		}
	}
	return Continue
}

// decideCommand answers or forwards a command that has been read whole.
func (f *Filter) decideCommand() Event {
	if f.pending.kind != pendingNone {
		return Wait
	}
	switch f.client.name {
	case "STARTTLS":
		return f.decideStartTLS()
	case "COMPRESS":
		return f.decideCompress()
	case "ID":
		return f.decideID()
	case "ENABLE":
		return f.decideEnable()
	case "GETMETADATA":
		return f.decideGet()
	default:
		return f.decideSet()
	}
}

// answerCommand answers the command that has been read whole, which ends it. response is complete.
func (f *Filter) answerCommand(response []byte) Event {
	f.respond(response)
	f.client.state = commandBegin
	f.client.collected = nil
	return Continue
}

func (f *Filter) answerStatus(format string, args ...any) Event {
	return f.answerCommand(fmt.Appendf(nil, "%s %s\r\n", f.client.tag, fmt.Sprintf(format, args...)))
}

// respond sends the client a response of our own, as soon as no other is passing.
func (f *Filter) respond(response []byte) {
	f.answers += len(response)
	if f.backend.passing() {
		f.inserts = append(f.inserts, response...)
		return
	}
	f.toClient.add(response)
}

// close ends the session after something that might make the backend and the Filter disagree on where commands begin.
func (f *Filter) close(text string) Event {
	f.respond(fmt.Appendf(nil, "* BYE %s\r\n", text))
	f.client = clientStream{state: closed}
	return Close
}
