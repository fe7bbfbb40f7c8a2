package imapext

import (
	"bytes"
	"fmt"
	"strings"
)

// decideEnable forwards ENABLE (RFC 5161). If the backend does not have METADATA, the Filter enables it: the word is removed from
// the command, and added to the ENABLED response (RFC 5464 section 4.1). It enables unsolicited METADATA responses, which the
// Filter never sends.
func (f *Filter) decideEnable() Event {
	c := &f.client
	var enabled string
	var rest []string
	for word := range strings.SplitSeq(string(withoutLineEnd(c.collected)), " ") {
		switch upper := strings.ToUpper(word); {
		case strings.ContainsFunc(word, func(r rune) bool { return r > 0x7F || !isAtomChar(byte(r)) }):
			return f.answerStatus("BAD syntax error in arguments of ENABLE")
		case upper == "METADATA", upper == "METADATA-SERVER":
			enabled += " " + upper
		case word != "":
			rest = append(rest, word)
		}
	}
	if enabled != "" && f.capabilities.metadata == metadataUnknown {
		return f.askCapabilities()
	}
	if enabled == "" || f.capabilities.metadata == metadataPresent {
		return f.forwardCommand(fmt.Appendf(nil, "%s %s%s", c.tag, c.name, c.collected))
	}
	if len(rest) == 0 {
		return f.answerCommand(fmt.Appendf(nil, "* ENABLED%s\r\n%s OK ENABLE completed\r\n", enabled, c.tag))
	}
	f.pending = pending{kind: pendingEnable, tag: c.tag, enabled: enabled}
	return f.forwardCommand(fmt.Appendf(nil, "%s ENABLE %s\r\n", c.tag, strings.Join(rest, " ")))
}

// addEnabled adds what was enabled here to the backend's ENABLED response.
func (f *Filter) addEnabled(line []byte) []byte {
	if f.pending.kind != pendingEnable || f.pending.enabled == "" {
		return line
	}
	rewritten := bytes.TrimRight(line, " \r\n")
	rewritten = append(rewritten[:len(rewritten):len(rewritten)], f.pending.enabled...)
	f.pending.enabled = ""
	return append(rewritten, lineEnd(line)...)
}
