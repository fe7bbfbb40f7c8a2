package imapext

// forwardCommand sends the backend a command that was read whole, which is the Filter's from now on. Each literal in it is sent as
// a synchronising one, after the backend has granted it; the client sees none of this.
func (f *Filter) forwardCommand(command []byte) Event {
	f.outstanding.add(f.client.tag)
	return f.forward(command)
}

// forward sends the backend a part of a command.
func (f *Filter) forward(part []byte) Event {
	c := &f.client
	c.collected = part
	c.literal = 0
	c.state = forward
	f.plus = continuation{state: plusGranted, tag: c.tag}
	return Continue
}

// forwardParts sends the next part of a command that is forwarded.
func (f *Filter) forwardParts() Event {
	c := &f.client
	switch f.plus.take() {
	case plusAwaited:
		return Wait
	case plusRefused:
		c.collected = nil
		if c.set.streams && c.unasked { // the client sends the literal that was to pass all the same
			c.mode = discard
			c.answer = ""
			c.literal = c.set.size
			c.state = commandLiteral
			return Continue
		}
	case plusGranted:
		part, literal := c.nextPart()
		f.toBackend.add(part)
		switch {
		case literal && len(c.collected) == 0 && c.set.streams:
			f.plus.await(c.tag, c.unasked)
			c.mode = pass
			c.state = literalAnnounced
			return Continue
		case literal:
			f.plus.await(c.tag, true)
			return Continue
		}
	}
	c.state = commandBegin
	return Continue
}

// nextPart returns the next part of a command that is forwarded: the contents of the literal that the backend has granted, and what
// follows, to the end or to the announcement of the next literal, which it makes a synchronising one.
func (c *clientStream) nextPart() (part []byte, literal bool) {
	var line commandLine
	for i := int(c.literal); i < len(c.collected); i++ {
		plus := i - line.plus // where the "+" is, if there is one
		if !line.next(c.collected[i]) || line.literal() == noLiteral {
			continue
		}
		part, c.collected = c.collected[:i+1], c.collected[i+1:]
		c.literal = line.size
		if line.literal() == nonSynchronising {
			part = append(part[:plus], part[plus+1:]...)
		}
		return part, true
	}
	part, c.collected = c.collected, nil
	return part, false
}
