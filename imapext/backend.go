package imapext

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mailturn/mailturn/imapext/internal/stream"
	"github.com/mailturn/mailturn/imapext/metadata"
)

// maxStash bounds what the backend may send while TLS or compression starts on the client's connection.
const maxStash = 64 << 10

// ErrStash means that the backend sent more than 64 KiB unasked while TLS or compression started on the client's connection.
var ErrStash = errors.New("backend sent too much while TLS or compression started")

// backendStream is the state of reading the backend's stream.
type backendStream struct {
	state     backendState
	kind      responseKind
	held      []byte // what has been read of the response but not passed
	tail      lineTail
	remaining uint64 // of the literal
	metadata  *stream.ResponseFilter
	hidden    bool // the response is kept from the client
	// capability is an untagged CAPABILITY response, or an untagged status response with that code. It is held until the next
	// response shows which state of the connection it describes, and whether it is for the client.
	capability []byte
}

type backendState byte

const (
	betweenResponses backendState = iota // or at the beginning of one, which is held
	holdingLine                          // of a response that is handled whole
	holdingLiteral
	passingLine
	passingLiteral
	filteringMetadata // a METADATA response passes, without our own entries
)

// passing reports whether the client has received the beginning of a response but not its end, so that nothing can be inserted.
func (s *backendStream) passing() bool {
	switch s.state {
	case passingLine, passingLiteral:
		return !s.hidden
	case filteringMetadata:
		return s.metadata.Begun()
	default:
		return false
	}
}

// FromBackend consumes p, bytes from the backend. What it appends to the client's queue may alias p. Its only error is ErrStash, after
// which the session must be closed.
func (f *Filter) FromBackend(p []byte) error {
	f.mu.Lock()
	defer f.unlock()
	if !f.gated {
		p = f.fromBackend(p)
	}
	if len(f.stash)+len(p) > maxStash {
		return ErrStash
	}
	f.stash = append(f.stash, p...)
	return nil
}

// fromBackend consumes p and returns the part that has to be kept until the client's connection has changed.
func (f *Filter) fromBackend(p []byte) (rest []byte) {
	s := &f.backend
	for len(p) > 0 && !f.gated && (!f.ended || s.passing()) {
		switch s.state {
		case betweenResponses:
			p = f.beginResponse(p)
		case holdingLine:
			p = f.holdLine(p)
		case holdingLiteral:
			n := min(uint64(len(p)), s.remaining)
			if len(s.held)+int(n) > s.kind.limit() {
				f.passLongResponse(passingLiteral, p)
				continue
			}
			s.held = append(s.held, p[:n]...)
			p = p[n:]
			if s.remaining -= n; s.remaining == 0 {
				s.state = holdingLine
			}
		case passingLine:
			end := bytes.IndexByte(p, '\n') + 1
			if end == 0 {
				end = len(p)
			}
			f.passLine(p[:end])
			p = p[end:]
		case passingLiteral:
			n := min(uint64(len(p)), s.remaining)
			f.pass(p[:n])
			p = p[n:]
			if s.remaining -= n; s.remaining == 0 {
				s.state = passingLine
				s.tail = lineTail{}
			}
		case filteringMetadata:
			p = f.filterMetadata(p)
		}
	}
	if f.waiting && f.progress {
		f.waiting = false
		select {
		case f.resume <- struct{}{}:
		default: // the value of an earlier call is still there
		}
	}
	f.progress = false
	if !f.gated {
		return nil
	}
	return p
}

// beginResponse determines the kind of the response that begins with what is held and p, and returns the rest of p.
func (f *Filter) beginResponse(p []byte) []byte {
	s := &f.backend
	kind, ok := readResponseKind(s.beginning(p))
	if !ok {
		s.held = append(s.held, p...)
		return nil
	}
	if kind == responseMetadata && (!f.loggedIn || f.options.Entries == nil) {
		kind = responseData
	}
	if kind == responseMailbox && f.pending.kind != pendingMailbox {
		kind = responseData
	}
	if kind == responseData && f.options.CountMessages && !f.messages.response(s.beginning(p)) {
		s.held = append(s.held, p...)
		return nil
	}
	if kind == responseID {
		s.hidden = f.pending.kind == pendingIdentify
		kind = responseData
	}
	s.kind = kind
	if kind.limit() > 0 {
		s.state = holdingLine
		return p
	}
	f.releaseCapability(nil)
	f.greeted = true // by something that is not a greeting; the client will see it
	held := s.held
	s.held = nil
	if kind == responseMetadata {
		s.metadata = f.newMetadataFilter()
		s.state = filteringMetadata
		f.filterMetadata(held)
		return p
	}
	s.state = passingLine
	s.tail = lineTail{}
	f.passLine(held)
	return p
}

// pass passes the next bytes of a response.
func (f *Filter) pass(b []byte) {
	if !f.backend.hidden {
		f.toClient.add(b)
	}
}

// passLine passes the next bytes of a line.
func (f *Filter) passLine(b []byte) {
	s := &f.backend
	f.pass(b)
	s.tail.add(b)
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return
	}
	if size, ok := announcedLiteral(s.tail.bytes()); ok && s.kind.hasLiterals() {
		s.remaining = size
		s.tail = lineTail{}
		if size > 0 {
			s.state = passingLiteral
		}
		return
	}
	f.endResponse()
}

// endResponse handles the end of a response.
func (f *Filter) endResponse() {
	f.backend.state = betweenResponses
	f.backend.hidden = false
	f.toClient.add(f.inserts)
	f.inserts = nil
	f.progress = true
	if f.uncompress { // the OK to UNAUTHENTICATE is the last compressed response
		f.gated = true
	}
}

// holdLine collects the next bytes of a response that is handled as a whole, and returns the rest of p.
func (f *Filter) holdLine(p []byte) []byte {
	s := &f.backend
	end := bytes.IndexByte(p, '\n') + 1
	complete := end > 0
	if !complete {
		end = len(p)
	}
	if len(s.held)+end > s.kind.limit() {
		f.passLongResponse(passingLine, p)
		return p
	}
	if !complete {
		s.held = append(s.held, p...)
		return nil
	}
	response := p[:end:end]
	if len(s.held) > 0 {
		response = append(s.held, response...)
	}
	if size, ok := announcedLiteral(response); ok && s.kind.hasLiterals() {
		s.held = append([]byte(nil), response...)
		s.remaining = size
		if size > 0 {
			s.state = holdingLiteral
		}
		return p[end:]
	}
	s.held = nil
	s.state = betweenResponses
	f.handleResponse(s.kind, response)
	f.greeted = true
	f.endResponse()
	return p[end:]
}

// beginning returns enough of the response to tell its kind, given that p continues it.
func (s *backendStream) beginning(p []byte) []byte {
	if len(s.held) == 0 {
		return p
	}
	return append(s.held, p[:min(len(p), maxTag+maxResponseWord+2)]...)
}

// passLongResponse stops holding a response that is too long: it passes, with its capabilities or entries unchanged. Its status still
// counts. p continues it.
func (f *Filter) passLongResponse(state backendState, p []byte) {
	s := &f.backend
	beginning, held := s.beginning(p), s.held
	s.held = nil
	s.state = state
	switch s.kind {
	case responseContinuation:
		f.releaseCapability(nil)
		s.hidden = f.grant()
	case responseTagged:
		ok, done := f.answered(beginning)
		s.hidden = f.complete(done, ok)
	case responseStatus:
		f.releaseCapability(nil)
		f.greeting(beginning)
	default:
		f.releaseCapability(nil)
	}
	f.greeted = true
	s.tail = lineTail{}
	f.pass(held)
	s.tail.add(held)
}

// handleResponse handles a complete response. It may alias the caller's buffer.
func (f *Filter) handleResponse(kind responseKind, response []byte) {
	switch kind {
	case responseContinuation:
		f.releaseCapability(nil)
		if f.grant() {
			return
		}
		f.toClient.add(response)
	case responseStatus:
		f.releaseCapability(nil)
		f.greeting(response)
		if f.pending.changesState() && hasCapabilityCode(response) {
			f.backend.capability = append([]byte(nil), response...)
			return
		}
		f.toClient.add(f.rewriteCode(response))
	case responseTagged:
		f.handleTagged(response)
	case responseCapability:
		f.releaseCapability(nil)
		if f.pending.changesState() || f.pending.kind == pendingCapabilities {
			f.backend.capability = append([]byte(nil), response...)
			return
		}
		f.toClient.add(f.rewriteCapability(response))
	case responseEnabled:
		f.releaseCapability(nil)
		f.toClient.add(f.addEnabled(response))
	case responseMailbox:
		f.releaseCapability(nil)
		if !f.pending.answersStatus(response) {
			f.toClient.add(response)
		}
	}
}

// greeting handles an untagged status response. The first one is the greeting, and only there can PREAUTH log in.
func (f *Filter) greeting(line []byte) {
	if !f.greeted && len(line) > 2 {
		word, _, _ := bytes.Cut(line[2:], []byte(" "))
		f.loggedIn = equalFold(bytes.TrimSpace(word), "PREAUTH")
	}
}

// grant handles a continuation request and reports whether it is kept from the client.
func (f *Filter) grant() (hide bool) {
	if f.plus.state != plusAwaited {
		return false
	}
	f.plus.state = plusGranted
	return f.plus.hide
}

// answered handles a tagged response, of which line is at least the beginning, and returns the pending command if this is its answer.
func (f *Filter) answered(line []byte) (ok bool, done pending) {
	tag, rest, _ := bytes.Cut(line, []byte(" "))
	status, _, _ := bytes.Cut(rest, []byte(" "))
	ok = equalFold(bytes.TrimSpace(status), "OK")
	f.outstanding.remove(tag)
	f.messages.answered(tag, ok)
	if f.plus.state == plusAwaited && f.plus.tag == string(tag) {
		f.plus.state = plusRefused
	}
	if f.pending.kind == pendingNone || f.pending.tag != string(tag) {
		return ok, pending{}
	}
	done = f.pending
	f.pending = pending{}
	switch done.kind {
	case pendingLogin:
		account := f.client.account.finish()
		if ok {
			f.setLoggedIn(true, account)
		}
	case pendingUnauthenticate:
		if ok {
			f.setLoggedIn(false, "")
			f.uncompress, f.compressed = f.compressed, false
		}
	}
	return ok, done
}

func (f *Filter) setLoggedIn(loggedIn bool, account string) {
	f.loggedIn = loggedIn
	f.session.Account = account
	f.capabilities.metadata = metadataUnknown
}

// handleTagged handles a tagged status response.
func (f *Filter) handleTagged(line []byte) {
	ok, done := f.answered(line)
	switch {
	case f.complete(done, ok):
	case done.kind == pendingGet:
		f.toClient.add(done.finishGet(ok, line))
	default:
		f.toClient.add(f.rewriteCode(line))
	}
}

// complete queues what precedes the tagged response to done, and reports whether that response is kept from the client.
func (f *Filter) complete(done pending, ok bool) (hide bool) {
	f.releaseCapability(&done)
	switch done.kind {
	case pendingCapabilities:
		if f.capabilities.metadata == metadataUnknown {
			f.capabilities.metadata = metadataAbsent
		}
		f.capabilities.known = true
		return true
	case pendingIdentify, pendingRefused:
		return true
	case pendingMailbox:
		if ok {
			f.toClient.add(done.answer)
		}
		return ok
	case pendingGet:
		f.toClient.add(metadata.AppendResponse(nil, "", done.ours))
		f.gave(done.ours)
	case pendingEnable:
		if ok && done.enabled != "" {
			f.toClient.add(fmt.Appendf(nil, "* ENABLED%s\r\n", done.enabled))
		}
	}
	return false
}

// releaseCapability sends the waiting response with capabilities, if there is one, before the next response. done is the command that
// the next response completes, if any.
func (f *Filter) releaseCapability(done *pending) {
	line := f.backend.capability
	if line == nil {
		return
	}
	f.backend.capability = nil
	if hasCapabilityCode(line) {
		f.toClient.add(f.rewriteCode(line))
		return
	}
	rewritten := f.rewriteCapability(line)
	if done == nil || done.kind != pendingCapabilities {
		f.toClient.add(rewritten)
	}
}

// newMetadataFilter returns a filter that removes our own entries from a METADATA response for the server: any user of the backend
// may have set values under these names.
func (f *Filter) newMetadataFilter() *stream.ResponseFilter {
	owned := f.pending.owned
	if f.pending.kind != pendingGet {
		owned = f.entries()
	}
	return stream.NewResponseFilter(func(name string) bool {
		_, ok := findEntry(owned, name)
		return ok
	})
}

// filterMetadata filters the next bytes of a METADATA response and returns the rest of p.
func (f *Filter) filterMetadata(p []byte) []byte {
	s := &f.backend
	for len(p) > 0 {
		begun := s.metadata.Begun()
		n, out, state := s.metadata.Next(p)
		p = p[n:]
		f.toClient.add(out)
		switch state {
		case stream.Filtered:
			s.metadata = nil
			f.endResponse()
			return p
		case stream.Unfiltered:
			s.metadata = nil
			s.state = passingLine
			s.tail = lineTail{}
			if !begun {
				s.tail.add(out)
			}
			return p
		}
	}
	return p
}
