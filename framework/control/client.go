package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
)

// maxAnswer is the size limit of a response in bytes: some 100,000 sessions.
const maxAnswer = 64 << 20

// Client calls the Server on a socket.
type Client struct{ Path string }

// Call sends a request and waits for its response as long as a Server may take. It sends in as the JSON body, unless in is
// nil, and decodes the response into out, unless out is nil. path may have a query. An error response is returned as an *Error.
func (c Client) Call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, AnswerTimeout+readLimit)
	defer cancel()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://mailturn"+path, body)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.Path)
	}}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return c.unreachable(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading the answer on %s: %w", c.Path, err)
	case len(text) > maxAnswer:
		return fmt.Errorf("the answer on %s is too large", c.Path)
	case response.StatusCode != http.StatusOK:
		return refusal(response, text)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the answer on %s is not as expected: %w", c.Path, err)
	}
	return nil
}

// refusal returns the error of an error response.
func refusal(response *http.Response, text []byte) error {
	var message struct{ Error string }
	if json.Unmarshal(text, &message) != nil || message.Error == "" {
		message.Error = "it answers " + response.Status + ": is it another version?"
	}
	return &Error{Status: response.StatusCode, Message: message.Error}
}

// unreachable says what to do about a socket on which nobody answers.
func (c Client) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no control socket %s: is mailturn running?", c.Path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody answers on the control socket %s: is mailturn running?", c.Path)
	case errors.Is(err, syscall.EAGAIN): // the backlog is full
		return fmt.Errorf("too many programs wait for an answer on the control socket %s: end them, or try again later", c.Path)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("mailturn does not answer on the control socket %s: does it hang?", c.Path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("you may not use the control socket %s: become root, or a member of its group", c.Path)
	}
	return fmt.Errorf("control socket %s: %w", c.Path, err)
}
