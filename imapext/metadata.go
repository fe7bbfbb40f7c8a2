package imapext

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// entries calls Options.Entries with the mutex released: meanwhile the other direction may change everything except the state of
// the calling direction.
func (f *Filter) entries() []metadata.Entry {
	session := f.session
	f.mu.Unlock()
	defer f.mu.Lock()
	return f.options.Entries.Entries(session)
}

// ending calls Options.Ending in the same way.
func (f *Filter) ending() bool {
	if f.options.Ending == nil {
		return false
	}
	f.mu.Unlock()
	defer f.mu.Lock()
	return f.options.Ending()
}

// gave records our entries in a response to GETMETADATA that is queued, for unlock.
func (f *Filter) gave(entries []metadata.Entry) {
	if f.options.Gave != nil && len(entries) > 0 {
		f.given = append(f.given, entries)
	}
}

// unlock releases the mutex, and then passes to Options.Gave what was queued meanwhile.
func (f *Filter) unlock() {
	given := f.given
	f.given = nil
	f.mu.Unlock()
	for _, entries := range given {
		f.options.Gave(entries)
	}
}

func findEntry(entries []metadata.Entry, name string) (metadata.Entry, bool) {
	for _, entry := range entries {
		if entry.Name == name {
			return entry, true
		}
	}
	return metadata.Entry{}, false
}

// decideGet answers GETMETADATA (RFC 5464 section 4.2), or forwards the part of it that the backend answers.
func (f *Filter) decideGet() Event {
	c := &f.client
	get, err := metadata.ParseGet(c.collected)
	if err != nil {
		return f.answerStatus("BAD %v", err)
	}
	if f.capabilities.metadata == metadataUnknown {
		return f.askCapabilities()
	}
	backend := f.capabilities.metadata == metadataPresent
	var owned []metadata.Entry
	if get.Mailbox == "" {
		if f.ending() {
			return f.answerCommand(nil)
		}
		owned = f.entries()
	} else if backend {
		if get.OptionsLast {
			return f.forwardCommand(get.Append(nil, c.tag))
		}
		return f.forwardCommand(fmt.Appendf(nil, "%s %s%s", c.tag, c.name, c.collected))
	}
	ours, longest := answerGet(get, owned, !backend)
	switch {
	case !backend && get.Mailbox != "":
		return f.askMailbox(get.Mailbox, ours)
	case backend:
		rest := get
		rest.Names = nil
		for _, name := range get.Names {
			if _, ok := findEntry(owned, name); !ok {
				rest.Names = append(rest.Names, name)
			}
		}
		if len(rest.Names) > 0 {
			f.pending = pending{kind: pendingGet, tag: c.tag, ours: ours, owned: owned, longest: longest}
			return f.forwardCommand(rest.Append(nil, c.tag))
		}
	}
	f.gave(ours)
	response := metadata.AppendResponse(nil, get.Mailbox, ours)
	response = append(response, c.tag...)
	response = append(response, " OK "...)
	if longest > 0 {
		response = append(metadata.AppendLongEntries(response, longest), ' ')
	}
	return f.answerCommand(append(response, "GETMETADATA completed\r\n"...))
}

// askMailbox answers GETMETADATA for a mailbox of a backend without METADATA, which has no entries, if there is such a mailbox. It
// sends the backend STATUS to find out, with the smallest request possible. If the backend refuses that, its refusal is the answer.
func (f *Filter) askMailbox(mailbox string, entries []metadata.Entry) Event {
	c := &f.client
	answer := metadata.AppendResponse(nil, mailbox, entries)
	answer = fmt.Appendf(answer, "%s OK GETMETADATA completed\r\n", c.tag)
	f.pending = pending{kind: pendingMailbox, tag: c.tag, mailbox: mailbox, answer: answer}
	command := metadata.AppendString(fmt.Appendf(nil, "%s STATUS ", c.tag), mailbox)
	return f.forwardCommand(append(command, " (UIDVALIDITY)\r\n"...))
}

// answersStatus reports whether response is the one to the STATUS command of askMailbox. There may be others, unsolicited or to the
// client's commands.
func (p *pending) answersStatus(response []byte) bool {
	mailbox := response[len("* STATUS "):]
	name, size := idArgument(mailbox)
	attributes := bytes.Fields(mailbox[size:])
	return (name == p.mailbox || strings.EqualFold(name, "INBOX") && strings.EqualFold(p.mailbox, "INBOX")) &&
		len(attributes) == 2 && equalFold(attributes[0], "(UIDVALIDITY") && bytes.HasSuffix(attributes[1], []byte(")"))
}

// answerGet returns the entries of owned that get asks for, and the size of the largest value that MAXSIZE excludes. With all, it
// also answers the names that owned does not have: with NIL, or with DEPTH not at all, as servers do.
func answerGet(get metadata.Get, owned []metadata.Entry, all bool) (entries []metadata.Entry, longest uint64) {
	add := func(entry metadata.Entry) {
		size := uint64(len(entry.Value.Octets()))
		if get.MaxSize != nil && size > uint64(*get.MaxSize) {
			longest = max(longest, size)
			return
		}
		entries = append(entries, entry)
	}
	if get.Depth == metadata.DepthZero {
		for _, name := range get.Names {
			if entry, ok := findEntry(owned, name); ok {
				add(entry)
			} else if all {
				add(metadata.Entry{Name: name})
			}
		}
		return entries, longest
	}
	for _, entry := range owned {
		if entry.Value.IsNIL() {
			continue
		}
		for _, name := range get.Names {
			if get.Depth.Covers(name, entry.Name) {
				add(entry)
				break
			}
		}
	}
	return entries, longest
}

// finishGet returns the tagged response to a GETMETADATA that was forwarded without our entries, for which the backend's is line;
// the response with ours has gone before it. If the backend refuses the rest, the command succeeds with ours, because clients
// discard all responses to a command that fails.
func (p *pending) finishGet(ok bool, line []byte) []byte {
	switch {
	case ok && p.longest > 0:
		return addLongEntries(line, p.tag, p.longest)
	case ok || len(p.ours) == 0:
		return line
	}
	response := fmt.Appendf(nil, "%s OK ", p.tag)
	if p.longest > 0 {
		response = append(metadata.AppendLongEntries(response, p.longest), ' ')
	}
	return append(response, "GETMETADATA completed in part\r\n"...)
}

// addLongEntries returns the tagged OK line with a LONGENTRIES response code of the larger of longest and what the line has (RFC
// 5464 section 4.2.1). It replaces another response code.
func addLongEntries(line []byte, tag string, longest uint64) []byte {
	_, code, after, hasCode := splitCode(line)
	text := line[len(tag)+len(" OK"):]
	if hasCode {
		text = after[1:]
		words := bytes.Fields(code)
		if len(words) == 3 && equalFold(words[0], "METADATA") && equalFold(words[1], "LONGENTRIES") {
			if size, err := strconv.ParseUint(string(words[2]), 10, 64); err == nil {
				longest = max(longest, size)
			}
		}
	}
	rewritten := metadata.AppendLongEntries(fmt.Appendf(nil, "%s OK ", tag), longest)
	return append(rewritten, text...)
}
