package imap

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Bounds of what an upstream server may say before a session begins.
const (
	maxGreetingLine   = 8 * 1024 // bytes
	maxStartTLSLines  = 16       // until STARTTLS is answered
	maxQuotedGreeting = 60       // bytes, in an error
)

// A byeError is the greeting BYE, by which a server refuses a client (RFC 9051 section 7.1.5).
type byeError struct{ text string } // what follows "* BYE "

func (e *byeError) Error() string { return fmt.Sprintf("greeted with BYE %q", e.text) }

// A greetedConn is a connection to a server whose greeting has been read, and is read from it once more. One goroutine
// reads.
type greetedConn struct {
	halfCloser
	raw   *patientConn // below TLS, if there is TLS
	ahead []byte       // what has been read, and not from here
}

func (c *greetedConn) await(limit time.Duration) bool { return c.raw.await(limit) }

func (c *greetedConn) unsent() int { return c.raw.unsent() }

func (c *greetedConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.halfCloser.Read(p)
	}
	n := copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	return n, nil
}

// readGreeting reads the server's greeting (RFC 9051 section 7.1), OK or PREAUTH, with its line end, and what came with it.
// The error is a *byeError for BYE.
func readGreeting(r io.Reader) (greeting, ahead []byte, err error) {
	greeting, ahead, err = readLine(r, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("greeting: %w", err)
	}
	word, text := splitUntagged(greeting)
	switch word {
	case "OK", "PREAUTH":
		return greeting, ahead, nil
	case "BYE":
		return nil, nil, &byeError{text}
	default:
		return nil, nil, fmt.Errorf("not an IMAP greeting: %q", clip(string(greeting), maxQuotedGreeting))
	}
}

// splitUntagged returns the status of an untagged status response in upper case, and its text. A line that is none has the
// empty status.
func splitUntagged(line []byte) (status, text string) {
	rest, untagged := strings.CutPrefix(strings.TrimRight(string(line), "\r\n"), "* ")
	if !untagged {
		return "", ""
	}
	status, text, _ = strings.Cut(rest, " ")
	return strings.ToUpper(status), text
}

// isPreauth reports whether the greeting says that the client is logged in (RFC 9051 section 7.1.4).
func isPreauth(greeting []byte) bool {
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

// startUpstreamTLS does STARTTLS with the server before anything of the client's is passed (RFC 9051 section 6.2.1). The
// connection that it returns begins with the greeting, without the capabilities in it: they were said in the clear and have
// to be forgotten.
//
// It fails if the server has let somebody in before TLS (PREAUTH), and if something follows the answer to STARTTLS: both are
// what an attacker on the line would do to be heard inside TLS.
func startUpstreamTLS(ctx context.Context, conn *patientConn, config *tls.Config, greeting, ahead []byte) (*greetedConn, error) {
	if isPreauth(greeting) {
		return nil, errors.New("greeted with PREAUTH, after which there is no STARTTLS")
	}
	if _, err := io.WriteString(conn, "mailturn STARTTLS\r\n"); err != nil {
		return nil, fmt.Errorf("STARTTLS: %w", err)
	}
	ahead, err := readStartTLSAnswer(conn, ahead)
	if err != nil {
		return nil, fmt.Errorf("STARTTLS: %w", err)
	}
	if len(ahead) > 0 {
		return nil, fmt.Errorf("STARTTLS: %d bytes in the clear behind the answer", len(ahead))
	}
	tlsConn := tls.Client(conn, config)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return &greetedConn{tlsConn, conn, withoutCapabilities(greeting)}, nil
}

// readStartTLSAnswer reads up to the tagged OK and returns what was read behind it.
func readStartTLSAnswer(r io.Reader, ahead []byte) (rest []byte, err error) {
	for range maxStartTLSLines {
		var line []byte
		if line, ahead, err = readLine(r, ahead); err != nil {
			return nil, err
		}
		status, _ := splitUntagged(line)
		tag, answer, _ := bytes.Cut(line, []byte(" "))
		answer, _, _ = bytes.Cut(bytes.TrimSpace(answer), []byte(" "))
		switch {
		case status == "BYE", string(tag) != "*" && string(tag) != "mailturn":
			return nil, fmt.Errorf("answered %q", clip(string(line), maxQuotedGreeting))
		case string(tag) == "*":
		case strings.EqualFold(string(answer), "OK"):
			return ahead, nil
		default:
			return nil, fmt.Errorf("refused with %q", clip(string(line), maxQuotedGreeting))
		}
	}
	return nil, fmt.Errorf("not answered in %d lines", maxStartTLSLines)
}

// withoutCapabilities returns the greeting without its response code, if that is CAPABILITY.
func withoutCapabilities(greeting []byte) []byte {
	status, text := splitUntagged(greeting)
	code, rest, found := strings.Cut(text, "]")
	if word, _, _ := strings.Cut(code, " "); !found || !strings.EqualFold(word, "[CAPABILITY") {
		return greeting
	}
	if rest = strings.TrimLeft(rest, " "); rest == "" {
		rest = "Ready" // RFC 9051's resp-text is not empty
	}
	return fmt.Appendf(nil, "* %s %s\r\n", status, rest)
}
