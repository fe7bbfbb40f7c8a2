package discovery

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// maxAnswer bounds what a server may send in answer to one command, and as its greeting: all responses with their
// literals, in bytes, after decompression.
const maxAnswer = 256 << 10

// Entries returns the entries that core asks for by its first GETMETADATA after it has started (RFC 5464 section 4.2), in its order.
func Entries() []string {
	return []string{
		"/shared/comment", "/shared/admin", "/shared/vendor/deltachat/irohrelay", TURNEntry,
		"/shared/vendor/deltachat/maxsmtprecipients", "/shared/vendor/deltachat/appversions",
	}
}

// StatusError is the server's NO or BAD to a command, or its BYE in place of the greeting or of the end of a command. After BYE
// the session is over.
type StatusError struct {
	Command string // without its arguments, but with the mechanism of AUTHENTICATE
	Status  string // NO, BAD or BYE
	Text    string // what the server said, for people
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: the server answered %s %s", e.Command, e.Status, e.Text)
}

// Client is one connection to an IMAP server, driven as core drives it: one command at a time, never pipelined. Only one goroutine
// may use it.
//
// It does not use go-imap's client, whose request and parser differ from core's: both are what this package examines.
type Client struct {
	// Raw, if not nil, is called with every METADATA response, bytes that are only valid during the call. They hold the
	// password.
	Raw func(response []byte)

	conn       net.Conn
	r          *bufio.Reader
	w          io.Writer
	flush      func() error // of the compressor, or nil
	serial     int
	greeting   string
	greetCaps  []string // of the greeting, if it had any
	capability []string // as last told
	// capabilityErr is the error of a CAPABILITY command before login. It is not sent again.
	capabilityErr error
}

// NewClient reads the greeting of a connection. TLS, if it is implicit, has been begun by the caller. The client owns conn
// from here on, unless there is an error.
func NewClient(ctx context.Context, conn net.Conn) (*Client, error) {
	c := &Client{conn: conn, r: bufio.NewReader(conn), w: conn}
	defer c.watch(ctx)()
	line, err := c.readResponse(maxAnswer)
	if err != nil {
		return nil, c.explain(ctx, "greeting", err)
	}
	status, text := statusOf(strings.TrimPrefix(string(line), "* "))
	switch {
	case !bytes.HasPrefix(line, []byte("* ")) || status == "":
		return nil, fmt.Errorf("greeting: %.40q is not IMAP", line)
	case status == "BYE":
		return nil, &StatusError{"greeting", status, text}
	}
	c.greeting = text
	c.greetCaps, _ = codeCapabilities(text)
	return c, nil
}

// Greeting returns the text of the greeting.
func (c *Client) Greeting() string { return c.greeting }

// watch makes the connection's operations fail when ctx is done. The returned function stops the watch.
func (c *Client) watch(ctx context.Context) func() {
	_ = c.conn.SetDeadline(time.Time{})
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = c.conn.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-ended // or it might end what the next watch begins
		}
	}
}

// explain says which step failed, and puts the context's error in place of the connection's, which is only its effect.
func (c *Client) explain(ctx context.Context, step string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if errors.Is(err, io.EOF) {
		err = errors.New("the server closed the connection")
	}
	return fmt.Errorf("%s: %w", step, err)
}

// Close closes the connection without LOGOUT.
func (c *Client) Close() error { return c.conn.Close() }

// StartTLS switches to TLS (RFC 9051 section 6.2.1). What the server said before is forgotten.
func (c *Client) StartTLS(ctx context.Context, config *tls.Config) (tls.ConnectionState, error) {
	if err := c.simple(ctx, "STARTTLS", ""); err != nil {
		return tls.ConnectionState{}, err
	}
	if c.r.Buffered() > 0 {
		return tls.ConnectionState{}, errors.New("STARTTLS: the server went on in the clear after its OK")
	}
	conn := tls.Client(c.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return conn.ConnectionState(), fmt.Errorf("TLS handshake: %w", err)
	}
	c.conn, c.w = conn, conn
	c.greetCaps, c.capability, c.capabilityErr = nil, nil, nil
	c.r.Reset(conn)
	return conn.ConnectionState(), nil
}

// errNoList is the cause of an error of Capabilities.
var errNoList = errors.New("the server lists none")

// Capabilities returns what the server lists (RFC 9051 section 6.1.1): from the greeting or an OK, or from the command
// CAPABILITY if it was in neither. The list is parsed as core does: ErrUnparsable if IMAP4rev1 is not in it, or not everything
// is separated by one space. Core looks at it after login only, so the session can go on after that error before login.
func (c *Client) Capabilities(ctx context.Context) ([]string, error) {
	switch {
	case c.capability != nil:
		return c.capability, nil
	case c.greetCaps != nil:
		return c.greetCaps, nil
	case c.capabilityErr != nil:
		return nil, c.capabilityErr
	}
	unparsable := errNoList
	err := c.command(ctx, "CAPABILITY", "", func(response []byte) error {
		if len(response) >= 13 && strings.EqualFold(string(response[:13]), "* CAPABILITY ") {
			c.capability, unparsable = parseCapabilities(strings.TrimRight(string(response[13:]), " \r\n"))
		}
		return nil
	})
	if err == nil && c.capability == nil {
		err = fmt.Errorf("CAPABILITY: %w", unparsable)
	}
	c.capabilityErr = err
	return c.capability, err
}

// Compress begins DEFLATE in both directions (RFC 4978), as core does wherever it is offered.
func (c *Client) Compress(ctx context.Context) error {
	if err := c.simple(ctx, "COMPRESS", " DEFLATE"); err != nil {
		return err
	}
	w, err := flate.NewWriter(c.conn, flate.DefaultCompression)
	if err != nil {
		return err
	}
	c.r = bufio.NewReader(flate.NewReader(c.r))
	c.w, c.flush = w, w.Flush
	return nil
}

// GetMetadata asks for the server's entries (RFC 5464 section 4.2), always as a list, and returns those that were told for the
// empty mailbox, in their order. A *StatusError other than BYE leaves the session usable: core falls back and goes on. After
// ErrUnparsable, core would close the connection.
func (c *Client) GetMetadata(ctx context.Context, names []string) ([]metadata.Entry, error) {
	var entries []metadata.Entry
	err := c.command(ctx, "GETMETADATA", ` "" (`+strings.Join(names, " ")+")", func(response []byte) error {
		if !isMetadata(response) {
			return nil
		}
		if c.Raw != nil {
			c.Raw(response)
		}
		mailbox, told, err := ParseMetadata(response)
		if err == nil && mailbox == "" {
			entries = append(entries, told...)
		}
		return err
	})
	return entries, err
}

// Logout says goodbye and closes the connection.
func (c *Client) Logout(ctx context.Context) error {
	return errors.Join(c.simple(ctx, "LOGOUT", ""), c.Close())
}

func (c *Client) simple(ctx context.Context, name, arguments string) error {
	return c.command(ctx, name, arguments, ignore)
}

// ignore is for commands whose untagged responses do not matter.
func ignore([]byte) error { return nil }

// command sends a command that the server asks no more data for. See exchange.
func (c *Client) command(ctx context.Context, name, arguments string, untagged func(response []byte) error) error {
	return c.exchange(ctx, name, arguments, untagged, nil)
}

// exchange sends a command and passes each untagged response to untagged until the tagged one arrives. If the server asks for more
// (RFC 9051 section 7.6), it is sent the line that respond returns, without line end, for the text of the request.
func (c *Client) exchange(ctx context.Context, name, arguments string, untagged func(response []byte) error, respond func(text string) (string, error)) error {
	defer c.watch(ctx)()
	c.serial++
	tag := fmt.Sprintf("A%04d", c.serial)
	if err := c.writeLine(tag + " " + name + arguments); err != nil {
		return c.explain(ctx, name, err)
	}
	for left := maxAnswer; ; {
		response, err := c.readResponse(left)
		if err != nil {
			return c.explain(ctx, name, err)
		}
		left -= len(response)
		line := string(response)
		switch rest, tagged := strings.CutPrefix(line, tag+" "); {
		case tagged:
			status, text := statusOf(rest)
			if list, ok := codeCapabilities(text); ok {
				c.capability = list
			}
			switch status {
			case "OK":
				return nil
			case "NO", "BAD":
				return &StatusError{name, status, text}
			}
			return fmt.Errorf("%s: %w: %.80q", name, ErrUnparsable, line)
		case strings.HasPrefix(line, "* "):
			if status, text := statusOf(line[2:]); status == "BYE" && name != "LOGOUT" {
				return &StatusError{name, status, text}
			}
			if err := untagged(response); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case strings.HasPrefix(line, "+") && respond != nil:
			next, err := respond(strings.Trim(line[1:], " \r\n"))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := c.writeLine(next); err != nil {
				return c.explain(ctx, name, err)
			}
		default: // not shown, because it may be the rest of a value whose literal was announced too short
			return fmt.Errorf("%s: %w: a line that is neither untagged nor of this command", name, ErrUnparsable)
		}
	}
}

func (c *Client) writeLine(line string) error {
	_, err := io.WriteString(c.w, line+"\r\n")
	if err == nil && c.flush != nil {
		err = c.flush()
	}
	return err
}

var errTooMuch = fmt.Errorf("the server sends more than %d bytes", maxAnswer)

// readResponse returns the next response, of at most limit bytes, with its literals and line end.
func (c *Client) readResponse(limit int) ([]byte, error) {
	var response []byte
	for {
		line, err := c.readLine(limit - len(response))
		if err != nil {
			return nil, err
		}
		response = append(response, line...)
		size, ok := literalSize(response)
		if !ok {
			return response, nil
		}
		if size > limit-len(response) {
			return nil, errTooMuch
		}
		start := len(response)
		response = append(response, make([]byte, size)...)
		if _, err := io.ReadFull(c.r, response[start:]); err != nil {
			return nil, err
		}
	}
}

func (c *Client) readLine(limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := c.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > limit:
			return nil, errTooMuch
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// isMetadata reports whether a response is METADATA, the only response to our commands that holds literals.
func isMetadata(response []byte) bool {
	return len(response) > 11 && strings.EqualFold(string(response[:11]), "* METADATA ")
}

// literalSize returns the size of the literal that the line at the end of the response announces.
func literalSize(response []byte) (size int, ok bool) {
	line, found := bytes.CutSuffix(response, []byte("}\r\n"))
	if !found || !isMetadata(response) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(line[bytes.LastIndexByte(line, '{')+1:]), 10, 31)
	return int(n), err == nil
}

// statusOf splits "OK text" and the like.
func statusOf(s string) (status, text string) {
	word, rest, _ := strings.Cut(strings.TrimRight(s, "\r\n"), " ")
	switch word = strings.ToUpper(word); word {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return word, rest
	}
	return "", ""
}

// codeCapabilities returns the list in the response code at the beginning of text. Core treats one that does not parse as text.
func codeCapabilities(text string) ([]string, bool) {
	if len(text) < 12 || !strings.EqualFold(text[:12], "[CAPABILITY ") {
		return nil, false
	}
	list, _, found := strings.Cut(text[12:], "]")
	parsed, err := parseCapabilities(list)
	return parsed, found && err == nil
}

func parseCapabilities(list string) ([]string, error) {
	names := strings.Split(list, " ")
	rev1 := false
	for _, name := range names {
		if name == "" {
			return nil, fmt.Errorf("%w: capabilities are not separated by one space", ErrUnparsable)
		}
		rev1 = rev1 || strings.EqualFold(name, "IMAP4rev1")
	}
	if !rev1 {
		return nil, fmt.Errorf("%w: IMAP4rev1 is not among the capabilities", ErrUnparsable)
	}
	return names, nil
}

// Has reports whether a capability is in a list, in any case.
func Has(capabilities []string, name string) bool {
	for _, c := range capabilities {
		if strings.EqualFold(c, name) {
			return true
		}
	}
	return false
}
