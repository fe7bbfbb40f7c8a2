package imapext

// forwardCommand sends the backend a command that was read whole. Each literal in it is sent as a synchronising one, when the
// backend has granted it; the client sees none of this.
func (f *Filter) forwardCommand(command []byte) Event {
	c := &f.client
	c.collected = nil
	c.state = forward
	c.parts = splitLiterals(command)
	f.outstanding.add(c.tag)
	f.plus = continuation{state: plusGranted, tag: c.tag}
	return Continue
}

// splitLiterals cuts command behind each announcement of a literal, and makes that a synchronising one.
func splitLiterals(command []byte) [][]byte {
	var parts [][]byte
	var line commandLine
	start := 0
	for i := 0; i < len(command); i++ {
		plus := line.plus
		if !line.next(command[i]) {
			continue
		}
		ended := line
		line = commandLine{}
		switch ended.literal() {
		case noLiteral:
			continue
		case nonSynchronising:
			parts = append(parts, append(command[start:i-plus:i-plus], command[i-plus+1:i+1]...))
		case synchronising:
			parts = append(parts, command[start:i+1])
		}
		start = i + 1
		i += int(ended.size)
	}
	return append(parts, command[start:])
}

// forwardParts sends the next part of a command that is forwarded.
func (f *Filter) forwardParts() Event {
	c := &f.client
	switch f.plus.take() {
	case plusAwaited:
		return Wait
	case plusRefused:
		c.parts = nil
	case plusGranted:
		f.toBackend.add(c.parts[0])
		c.parts = c.parts[1:]
		if len(c.parts) > 0 {
			f.plus.await(c.tag, true)
			return Continue
		}
	}
	c.parts = nil
	c.state = commandBegin
	return Continue
}
