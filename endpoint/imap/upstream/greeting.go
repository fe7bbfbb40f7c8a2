package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mailturn/mailturn/endpoint/imap/backend"
)

// maxGreetingLine bounds each line from a server before a session begins, in bytes.
const maxGreetingLine = 8 * 1024

// ReadGreeting reads the server's greeting (RFC 9051 section 7.1), OK or PREAUTH, with its line end, and what was read after it.
// The error is a *backend.ByeError for BYE.
func ReadGreeting(r io.Reader) (greeting, ahead []byte, err error) {
	greeting, ahead, err = readLine(r, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("greeting: %w", err)
	}
	word, text := splitUntagged(greeting)
	switch word {
	case "OK", "PREAUTH":
		return greeting, ahead, nil
	case "BYE":
		return nil, nil, &backend.ByeError{Text: text}
	default:
		return nil, nil, fmt.Errorf("not an IMAP greeting: %.60q", greeting)
	}
}

// splitUntagged returns the status of an untagged status response in upper case, and its text. The status of any other line is
// empty.
func splitUntagged(line []byte) (status, text string) {
	rest, untagged := strings.CutPrefix(strings.TrimRight(string(line), "\r\n"), "* ")
	if !untagged {
		return "", ""
	}
	status, text, _ = strings.Cut(rest, " ")
	return strings.ToUpper(status), text
}

// IsPreauth reports whether the greeting says that the client is logged in (RFC 9051 section 7.1.4).
func IsPreauth(greeting []byte) bool {
	status, _ := splitUntagged(greeting)
	return status == "PREAUTH"
}

// readLine reads up to the first line end, and returns the line with it and what was read after it. ahead is what has been
// read before.
func readLine(r io.Reader, ahead []byte) (line, rest []byte, err error) {
	buf := make([]byte, 512)
	for {
		if end := bytes.IndexByte(ahead, '\n') + 1; end > 0 {
			return ahead[:end:end], ahead[end:], nil
		}
		if len(ahead) >= maxGreetingLine {
			return nil, nil, fmt.Errorf("line is longer than %d bytes", maxGreetingLine)
		}
		n, err := r.Read(buf)
		ahead = append(ahead, buf[:n]...)
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, nil, err
		}
	}
}
