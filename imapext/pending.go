package imapext

import "github.com/mailturn/mailturn/imapext/metadata"

// outstandingTags are the tags of the commands that the backend has not answered. Each tag is in it once: a command whose tag is in
// use waits, so that a tagged response belongs to one command.
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

// ownTag returns a tag for a command of our own, which no unanswered command of the client has.
func (f *Filter) ownTag() string {
	tag := "mailturn"
	for f.outstanding.has([]byte(tag)) {
		tag += "."
	}
	return tag
}

// pending is the command whose answer the Filter has to see before it passes the client's next command.
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

// continuation is the state of waiting for a command continuation request, "+" (RFC 9051 section 7.6). At most one command waits
// for one, because nothing from the client passes after it.
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

// take returns the state, and resets it if the wait is over.
func (c *continuation) take() plusState {
	state := c.state
	if state != plusAwaited {
		*c = continuation{}
	}
	return state
}
