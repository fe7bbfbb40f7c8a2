package imapext

// bounds is how much a client may have the Filter hold.
type bounds struct {
	// command is the size of a command that is read whole, literals included.
	command int
	// outstanding is the number of commands that the backend has not answered. More wait with the client.
	outstanding int
	// answers is how much is answered here before it is written. Commands of two bytes have answers of thirty, and one command
	// may ask for any number of entries.
	answers int
}

// bounds returns those in force. Before login anybody may be the client, and what is held is a stranger's: of the commands
// that are read whole, an ID of 4 KiB has room for every field that clients send, and STARTTLS is a word.
func (f *Filter) bounds() bounds {
	if !f.loggedIn {
		return bounds{command: 4 << 10, outstanding: 16, answers: 4 << 10}
	}
	return bounds{command: 64 << 10, outstanding: 1024, answers: 16 << 10}
}
