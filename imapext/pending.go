package imapext

import "github.com/mailturn/mailturn/imapext/metadata"

// outstandingTags are the tags of the commands that are with the backend. A tag is in it once: a command whose tag is taken
// waits, so that a tagged response belongs to one command.
type outstandingTags struct {
	tags map[string]struct{}
	grew bool // beyond what an idle session should keep
}

func (o *outstandingTags) has(tag []byte) bool {
	_, ok := o.tags[string(tag)]
	return ok
}

func (o *outstandingTags) add(tag string) {
	if o.tags == nil {
		o.tags = make(map[string]struct{})
	}
	o.tags[tag] = struct{}{}
	o.grew = o.grew || len(o.tags) > 8
}

func (o *outstandingTags) remove(tag []byte) {
	delete(o.tags, string(tag))
	if o.grew && len(o.tags) == 0 {
		*o = outstandingTags{}
	}
}

// ownTag returns a tag for a command of our own: one that no unanswered command of the client's has.
func (f *Filter) ownTag() string {
	tag := "mailturn"
	for f.outstanding.has([]byte(tag)) {
		tag += "."
	}
	return tag
}

// pending is the one command whose answer the Filter has to see before it lets the client's next command through.
type pending struct {
	kind pendingKind
	tag  string

	// Of pendingGet:
	ours    []metadata.Entry // what is answered here
	owned   []metadata.Entry // all entries of ours, whose values from the backend are dropped
	longest uint64           // the size of our largest value over MAXSIZE, 0 if there is none
	// Of pendingEnable: the words that were taken out, each with a space before it. Empty once they have been added to
	// the backend's ENABLED response.
	enabled string
	// Of pendingMailbox: our answer if there is such a mailbox, and its name.
	answer  []byte
	mailbox string
}

type pendingKind byte

const (
	pendingNone           pendingKind = iota
	pendingLogin                      // LOGIN or AUTHENTICATE
	pendingUnauthenticate             // RFC 8437
	pendingIdle
	pendingGet          // GETMETADATA, forwarded without the entries that are ours
	pendingEnable       // ENABLE, forwarded without METADATA
	pendingCapabilities // CAPABILITY of our own, its answers for us alone
	pendingIdentify     // ID of our own, likewise
	pendingRefused      // SETMETADATA, whose end was kept from the backend: the client has our answer
	pendingMailbox      // GETMETADATA for a mailbox, forwarded as STATUS: whether there is one
)

// changesState reports whether the pending command may end in another state of the connection (RFC 9051 section 3), so
// that an untagged CAPABILITY response before its tagged one may already describe that state.
func (p *pending) changesState() bool {
	return p.kind == pendingLogin || p.kind == pendingUnauthenticate
}

// continuation is the expectation of a command continuation request, "+" (RFC 9051 section 7.6). One command at most
// expects one, for nothing from the client passes after it.
type continuation struct {
	state plusState
	tag   string // of the command
	hide  bool   // the client does not expect it
}

type plusState byte

const (
	plusNone plusState = iota
	plusAwaited
	plusGranted
	plusRefused // the command's tagged response came instead
)

func (c *continuation) await(tag string, hide bool) {
	*c = continuation{state: plusAwaited, tag: tag, hide: hide}
}

// take returns the state, and forgets it if it is settled.
func (c *continuation) take() plusState {
	state := c.state
	if state != plusAwaited {
		*c = continuation{}
	}
	return state
}
