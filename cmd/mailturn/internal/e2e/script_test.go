package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A script is what a client does in a session, from the greeting to the end of the connection.
type script []step

// A step is what a client sends together, and what it waits for before it continues.
type step struct {
	// granted goes before send if the server has granted it with "+" and not refused it with the tagged response of its
	// command, which is then over.
	granted string
	send    string
	// plus is the tag of the command for which "+" is waited for, empty if none is.
	plus string
	// await are the beginnings of the responses that are waited for, in any order: a tag and a space, "* 1 EXISTS".
	await []string
	// deliver is a message that another connection of the same user, always directly to the server, appends before
	// anything is sent.
	deliver string
}

// A session is one run of a script.
type session struct {
	conn net.Conn
	// limit is how long a step may take.
	limit time.Duration
	// byteAtATime sends every byte separately.
	byteAtATime bool
	// deliver delivers a message to the user.
	deliver func(message string) error
}

const stepLimit = 30 * time.Second

var users atomic.Int64

// newUser returns the name of a new user. All names have the same length.
func newUser() string { return fmt.Sprintf("user%06d", users.Add(1)) }

// run runs a script and returns the server's responses, byte for byte, the greeting first. With an error they are those
// up to it. sent is what the server was sent.
func (s *session) run(sc script) (transcript []string, sent string, err error) {
	defer s.conn.Close()
	var all strings.Builder
	r := bufio.NewReader(s.conn)
	receive := func() (string, error) {
		response, err := readResponse(r)
		if response != "" {
			transcript = append(transcript, response)
		}
		return response, err
	}
	s.conn.SetDeadline(time.Now().Add(s.limit))
	if _, err := receive(); err != nil {
		return transcript, "", fmt.Errorf("greeting: %w", err)
	}
	refused := ""                 // the tag of the command that is over before its time
	answered := map[string]bool{} // by what the tagged response begins with
	for i, step := range sc {
		s.conn.SetDeadline(time.Now().Add(s.limit))
		if step.deliver != "" {
			if err := s.deliver(step.deliver); err != nil {
				return transcript, all.String(), fmt.Errorf("deliver a message: %w", err)
			}
		}
		text, plus := step.granted+step.send, step.plus
		if refused != "" {
			text = step.send
			if plus == refused {
				plus = ""
			} else {
				refused = ""
			}
		}
		await := slices.DeleteFunc(slices.Clone(step.await), func(begin string) bool { return answered[begin] })
		all.WriteString(text)
		// The server may want its responses read before it reads on.
		written := make(chan error, 1)
		go func() { written <- s.send(text) }()
		for len(await) > 0 || plus != "" {
			response, err := receive()
			if err != nil {
				s.conn.Close()
				<-written
				return transcript, all.String(), fmt.Errorf("step %d, %.60q, waits for %q and + for %q: %w", i, text, await, plus, err)
			}
			if !strings.HasPrefix(response, "*") && !strings.HasPrefix(response, "+") {
				tag, _, _ := strings.Cut(response, " ")
				answered[tag+" "] = true
			}
			switch j := slices.IndexFunc(await, func(begin string) bool { return strings.HasPrefix(response, begin) }); {
			case j >= 0:
				await = slices.Delete(await, j, j+1)
			case plus != "" && strings.HasPrefix(response, "+"):
				plus = ""
			case plus != "" && strings.HasPrefix(response, plus+" "):
				plus, refused = "", plus
			}
		}
		if err := <-written; err != nil {
			return transcript, all.String(), err
		}
	}
	for {
		if _, err := receive(); errors.Is(err, io.EOF) {
			return transcript, all.String(), nil
		} else if err != nil {
			return transcript, all.String(), fmt.Errorf("end of the connection: %w", err)
		}
	}
}

func (s *session) send(text string) error {
	if !s.byteAtATime {
		_, err := io.WriteString(s.conn, text)
		return err
	}
	for i := range len(text) {
		if _, err := io.WriteString(s.conn, text[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// announcement is the end of a line before a literal.
var announcement = regexp.MustCompile(`\{(\d+)\}\r?\n$`)

// freeText begins a response whose text may end in anything (RFC 9051 section 7.1).
var freeText = regexp.MustCompile(`^(\+|\S+ (?i:OK|NO|BAD|BYE|PREAUTH)\b)`)

// readResponse reads one response with its literals. What a connection ends in the midst of is returned with the error.
func readResponse(r *bufio.Reader) (string, error) {
	var response bytes.Buffer
	for {
		line, err := r.ReadBytes('\n')
		response.Write(line)
		if err != nil {
			return response.String(), err
		}
		m := announcement.FindSubmatch(line)
		if m == nil || freeText.Match(response.Bytes()) {
			return response.String(), nil
		}
		size, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			return response.String(), err
		}
		if _, err := io.CopyN(&response, r, size); err != nil {
			return response.String(), err
		}
	}
}

var (
	// took is how long Dovecot, or Cyrus, says that a command took.
	took = regexp.MustCompile(` \((\d+ msgs in )?\d+\.\d{3}( \+ \d+\.\d{3})* secs?( \d+ calls)?\)`)
	// sessionID and mailboxID are Cyrus's names for them.
	sessionID, mailboxID = regexp.MustCompile(`SESSIONID=<[^>]*>`), regexp.MustCompile(`MAILBOXID \([^)]*\)`)
	// uidValidity and errorTime are seconds of the clock, in Dovecot.
	uidValidity = regexp.MustCompile(`(UIDVALIDITY|APPENDUID|COPYUID) \d+`)
	errorTime   = regexp.MustCompile(`\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]`)
	// capabilityList is one that may differ, in a response of its own or a response code.
	capabilityList = regexp.MustCompile(`^(\* CAPABILITY|\S+ OK \[CAPABILITY)[^\]\r\n]*`)
	// proxied are the capabilities that a proxy may add or take away.
	proxied = regexp.MustCompile(` (METADATA|STARTTLS|LOGINDISABLED|COMPRESS=DEFLATE)\b`)
)

// normalise takes out of a response what differs between two sessions without a proxy, and the capabilities that are a
// proxy's affair. Responses with literals are not touched.
func normalise(response string) string {
	if strings.IndexByte(response, '\n') != len(response)-1 {
		return response
	}
	if freeText.MatchString(response) {
		response = took.ReplaceAllString(response, " (SECONDS)")
		response = sessionID.ReplaceAllString(response, "SESSIONID=<>")
		response = mailboxID.ReplaceAllString(response, "MAILBOXID ()")
		response = errorTime.ReplaceAllString(response, "[TIME]")
	}
	if freeText.MatchString(response) || strings.HasPrefix(response, "* STATUS ") {
		response = uidValidity.ReplaceAllString(response, "$1 N")
	}
	return capabilityList.ReplaceAllStringFunc(response, func(list string) string {
		return proxied.ReplaceAllString(list, "")
	})
}

// difference returns what is different in two transcripts, empty if nothing is.
func difference(want, got []string) string {
	for i := range max(len(want), len(got)) {
		switch {
		case i == len(want):
			return fmt.Sprintf("response %d is one too many: %.300q", i, got[i])
		case i == len(got):
			return fmt.Sprintf("response %d is missing: %.300q", i, want[i])
		}
		if diff := firstDifference(normalise(want[i]), normalise(got[i])); diff != "" {
			return fmt.Sprintf("response %d: %s", i, diff)
		}
	}
	return ""
}

// firstDifference says where two texts differ first, and is empty if they do not.
func firstDifference(want, got string) string {
	if want == got {
		return ""
	}
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	from := max(0, at-100)
	return fmt.Sprintf("differs at byte %d of %d:\n got %.300q\nwant %.300q", at, len(want), got[from:], want[from:])
}
