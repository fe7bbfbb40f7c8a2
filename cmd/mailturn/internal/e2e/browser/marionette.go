package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// marionette speaks Firefox's protocol of that name: JSON messages over TCP, each after its length in bytes and a colon, which carry
// the commands of WebDriver.
type marionette struct {
	conn     net.Conn
	reader   *bufio.Reader
	sequence int
}

// beginMarionette returns a function that connects to the port that Firefox chooses, and writes into its profile.
func beginMarionette(_ *exec.Cmd, o Options) (func(context.Context) (control, error), error) {
	return func(ctx context.Context) (control, error) {
		for {
			port, err := os.ReadFile(filepath.Join(o.Dir, "MarionetteActivePort"))
			if err == nil && len(port) > 0 {
				conn, err := o.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(string(port)))
				if err != nil {
					return nil, err
				}
				m := &marionette{conn: conn, reader: bufio.NewReader(conn)}
				if err := m.begin(ctx); err != nil {
					conn.Close()
					return nil, err
				}
				return m, nil
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}, nil
}

// begin reads the greeting and opens a session, in which a script may run for as long as the test lets it.
func (m *marionette) begin(ctx context.Context) error {
	if err := m.until(ctx); err != nil {
		return err
	}
	if _, err := m.receive(); err != nil {
		return err
	}
	return m.call(ctx, nil, "WebDriver:NewSession", map[string]any{
		"capabilities": map[string]any{"alwaysMatch": map[string]any{"timeouts": map[string]any{"script": nil}}},
	})
}

// until bounds what follows by the deadline of ctx.
func (m *marionette) until(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	return m.conn.SetDeadline(deadline)
}

func (m *marionette) receive() (json.RawMessage, error) {
	length, err := m.reader.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil {
		return nil, err
	}
	message := make([]byte, n)
	_, err = io.ReadFull(m.reader, message)
	return message, err
}

// call sends a command and decodes its result into value, unless that is nil.
func (m *marionette) call(ctx context.Context, value any, command string, params map[string]any) error {
	if params == nil {
		params = map[string]any{}
	}
	m.sequence++
	text, err := json.Marshal([]any{0, m.sequence, command, params})
	if err != nil {
		return err
	}
	if err := m.until(ctx); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(text), text); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	message, err := m.receive()
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	var reply [4]json.RawMessage // 1, the sequence, an error, a result
	if err := json.Unmarshal(message, &reply); err != nil {
		return err
	}
	var failure *struct{ Error, Message string }
	if err := json.Unmarshal(reply[2], &failure); err != nil {
		return err
	}
	if failure != nil {
		return fmt.Errorf("%s: %s: %s", command, failure.Error, failure.Message)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(reply[3], value)
}

func (m *marionette) visit(ctx context.Context, url string) error {
	return m.call(ctx, nil, "WebDriver:Navigate", map[string]any{"url": url})
}

func (m *marionette) evaluate(ctx context.Context, expression string) (json.RawMessage, error) {
	var result struct{ Value json.RawMessage }
	err := m.call(ctx, &result, "WebDriver:ExecuteScript", map[string]any{"script": "return (" + expression + ");", "args": []any{}})
	return result.Value, err
}

// view sets the size. A headless Firefox takes the color scheme only from its preferences.
func (m *marionette) view(ctx context.Context, width, height int, dark bool) error {
	if dark {
		return errors.New("no dark scheme in a headless Firefox")
	}
	return m.call(ctx, nil, "WebDriver:SetWindowRect", map[string]any{"width": width, "height": height})
}

func (m *marionette) screenshot(ctx context.Context) (string, error) {
	var result struct{ Value string }
	err := m.call(ctx, &result, "WebDriver:TakeScreenshot", map[string]any{"full": false})
	return result.Value, err
}

func (m *marionette) problems() []string { return nil }

func (m *marionette) close() { m.conn.Close() }
