package imapext

// exchanges reports whether further lines, which the backend requests with "+", may continue the command. The first line must not
// announce a literal, whose "+" could be mistaken for that request: Dovecot 2.3 ignores what follows IDLE.
func (c *clientStream) exchanges() bool {
	return c.name == "AUTHENTICATE" || c.name == "IDLE"
}

// awaitExchange continues when the backend has decided whether the client's next line continues AUTHENTICATE or IDLE or begins a
// command.
func (f *Filter) awaitExchange() (n int, event Event) {
	c := &f.client
	if f.pending.kind == pendingNone {
		f.plus = continuation{}
		c.state = commandBegin
		return 0, Continue
	}
	if f.plus.state != plusGranted {
		return 0, Wait
	}
	f.plus.await(c.tag, false)
	c.state = exchangeLine
	c.text = 0
	return 0, Continue
}

// readExchangeLine reads the next bytes of a line that continues AUTHENTICATE or IDLE. It must not announce a literal: Cyrus reads
// one that is announced after DONE, and others do not.
func (f *Filter) readExchangeLine(p []byte) (n int, event Event) {
	c := &f.client
	for n < len(p) && c.state == exchangeLine {
		if c.text++; c.text > maxLoginLine {
			return 0, f.close("Line is too long")
		}
		if c.line.next(p[n]) {
			c.line = commandLine{}
			c.state = exchange
		} else if c.line.bareCR || p[n] == '{' {
			return 0, f.close("Malformed command line")
		}
		n++
	}
	f.toBackend.add(p[:n])
	c.account.feed(p[:n])
	return n, Continue
}
