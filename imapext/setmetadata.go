package imapext

import (
	"fmt"
	"strings"

	"github.com/mailturn/mailturn/imapext/internal/stream"
	"github.com/mailturn/mailturn/imapext/metadata"
)

// maxHeldValues is how much of a SETMETADATA command is held, including the next literal. It leaves room for the lines within
// bounds.command.
const maxHeldValues = 48 << 10

// setCommand is the state of reading a SETMETADATA command (RFC 5464 section 4.3). Most are read whole. Those with large values go
// to the backend in parts: as soon as a value does not fit in what is held, what precedes it is decided on and forwarded, and the
// value passes.
type setCommand struct {
	reader stream.SetReader
	begun  bool // a part has gone to the backend
	// streams: what is decided on, and then forwarded, ends in the announcement of a literal of size bytes, which passes.
	streams bool
	size    uint64
}

// collect appends bytes of a command that is read whole.
func (c *clientStream) collect(b []byte) {
	c.collected = append(c.collected, b...)
	if c.name == "SETMETADATA" {
		c.set.reader.Read(b)
	}
}

// streamsLiteral reports whether the announced literal passes, after what precedes it: it is a value of a SETMETADATA command that
// is too large to be held.
func (f *Filter) streamsLiteral() bool {
	c := &f.client
	reader := &c.set.reader
	if c.name != "SETMETADATA" || !reader.InValue() && reader.Server() && reader.Valid() || uint64(len(c.collected))+c.literal <= maxHeldValues {
		return false
	}
	c.set.streams, c.set.size = true, c.literal
	c.state = decide
	return true
}

// endStreamedLiteral returns to reading the command whole, as its beginning was.
func (c *clientStream) endStreamedLiteral() {
	if !c.set.streams || c.mode != pass {
		return
	}
	c.mode = collect
	c.set.streams = false
}

// decideSet answers SETMETADATA, or forwards the part that has been read. The command succeeds or fails as a whole, so it is
// refused if it sets an entry of ours, which nobody may set.
func (f *Filter) decideSet() Event {
	c := &f.client
	if f.capabilities.metadata == metadataUnknown && !c.set.begun {
		return f.askCapabilities()
	}
	reader := &c.set.reader
	names := reader.Names
	reader.Names = nil
	if refusal := f.refusesSet(names); refusal != "" {
		f.refuse("%s", refusal)
		if c.set.streams {
			return f.discardLiteral()
		}
		return f.endCommand()
	}
	if !c.set.begun {
		f.outstanding.add(c.tag)
		c.collected = fmt.Appendf(nil, "%s %s%s", c.tag, c.name, c.collected)
		c.set.begun = true
	}
	return f.forward(c.collected)
}

// refusesSet returns the refusal of a SETMETADATA command with names, or "" if it is allowed.
func (f *Filter) refusesSet(names []string) string {
	reader := &f.client.set.reader
	absent := f.capabilities.metadata != metadataPresent
	if !reader.Valid() && (absent || reader.Server()) {
		return "BAD syntax error in arguments"
	}
	if f.client.set.begun && !f.outstanding.has([]byte(f.client.tag)) {
		return "BAD The command has been answered" // by the backend, and so this is not
	}
	var owned []metadata.Entry
	if reader.Server() {
		owned = f.entries()
	}
	private := false
	for _, name := range names {
		if _, ok := findEntry(owned, name); ok {
			return "NO [NOPERM] Entry is read-only"
		}
		if err := metadata.CheckPrefix(name); err != nil && absent {
			return "BAD " + err.Error()
		}
		private = private || strings.HasPrefix(name, "/private/")
	}
	switch {
	case absent && private:
		return "NO [METADATA NOPRIVATE] Private annotations are not supported"
	case absent:
		return "NO [NOPERM] Annotations are read-only"
	}
	return ""
}

// refuse refuses a command that is read whole. If a part of it has gone to the backend, the backend receives a line end instead of
// the rest: it refuses a list without its end, and so sets nothing.
func (f *Filter) refuse(format string, args ...any) {
	c := &f.client
	c.discard(format, args...)
	if c.name != "SETMETADATA" || !c.set.begun {
		return
	}
	f.toBackend.add([]byte("\r\n"))
	if f.outstanding.has([]byte(c.tag)) {
		f.pending = pending{kind: pendingRefused, tag: c.tag}
	} else {
		c.answer = "" // the backend has given it
	}
}
