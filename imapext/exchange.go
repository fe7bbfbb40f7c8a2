package imapext

// exchanges reports whether the command's line may be continued by others, for which the backend asks by "+". There is no
// literal in that line, whose "+" could be taken for the other: Dovecot 2.3 does not look at what follows IDLE.
func (c *clientStream) exchanges() bool {
	return c.name == "AUTHENTICATE" || c.name == "IDLE"
}

// awaitExchange goes on when the backend has said whether the client's next line continues AUTHENTICATE or IDLE or begins
// a command.
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

// readExchangeLine reads on in a line that continues AUTHENTICATE or IDLE. There is no literal in it: Cyrus reads the one
// that is announced after DONE, and others do not.
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
