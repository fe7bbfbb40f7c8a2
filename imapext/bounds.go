package imapext

// bounds limits how much the Filter holds for a client.
type bounds struct {
	// command is the size of a command that is read whole, literals included.
	command int
	// outstanding is the number of commands that the backend has not answered. Further commands are not read from the client.
	outstanding int
	// answers is the size of our own answers that are not written yet. A command of two bytes has an answer of thirty, and one
	// command may ask for any number of entries.
	answers int
}

// bounds returns the bounds in force. Before login they are smaller, because the client may be anybody: of the commands that are
// read whole, an ID of 4 KiB has room for every field that clients send, and STARTTLS has no arguments.
func (f *Filter) bounds() bounds {
	if !f.loggedIn {
		return bounds{command: 4 << 10, outstanding: 16, answers: 4 << 10}
	}
	return bounds{command: 64 << 10, outstanding: 1024, answers: 16 << 10}
}
