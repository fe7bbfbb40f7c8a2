// Package deltachat drives Delta Chat core, which is what the Delta Chat apps share, through its JSON-RPC server.
//
// The server is installed by "npm ci" in the package's directory, and an older one by the same in its directory oldest.
package deltachat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// program is the JSON-RPC server.
const program = "deltachat-rpc-server"

// stopLimit is how long core may take to end.
const stopLimit = 20 * time.Second

// Find returns the path of the JSON-RPC server: the one in PATH, or the one that npm has put below dir, which is this
// package's directory.
func Find(dir string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	return Installed(dir)
}

// Installed returns the path of the JSON-RPC server that npm has put below dir.
func Installed(dir string) (string, error) {
	matches, err := filepath.Glob(filepath.Join(dir, "node_modules", "@deltachat", "stdio-rpc-server-*", program))
	if err != nil {
		return "", err
	}
	if len(matches) != 1 {
		return "", fmt.Errorf("%s is not in %s", program, filepath.Join(dir, "node_modules"))
	}
	return filepath.Abs(matches[0])
}

// Core is a running core. Its methods may be called by several goroutines.
type Core struct {
	cmd    *exec.Cmd
	done   sync.WaitGroup // the goroutines that read answers and ask for events
	stderr strings.Builder

	mu      sync.Mutex // guards what follows, and writing to stdin
	stdin   io.WriteCloser
	last    uint64 // ID of the last request
	pending map[uint64]chan<- response
	failed  error // why there are no more answers
	events  []Event
	changed chan struct{} // closed, and replaced, when an event has come
}

// response is one of JSON-RPC 2.0, section 5.
type response struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Start runs the JSON-RPC server, whose command line cmd is, with its accounts in dir, which it makes. It runs until Stop.
func Start(cmd *exec.Cmd, dir string) (*Core, error) {
	c := &Core{cmd: cmd, pending: make(map[uint64]chan<- response), changed: make(chan struct{})}
	cmd.Env = append(os.Environ(), "DC_ACCOUNTS_PATH="+dir)
	cmd.Stderr = &c.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.stdin = stdin
	c.done.Go(func() { c.read(stdout) })
	c.done.Go(c.pollEvents)
	return c, nil
}

// Stop ends core as an app does that is closed.
func (c *Core) Stop() error {
	c.stdin.Close()
	killer := time.AfterFunc(stopLimit, func() { c.cmd.Process.Kill() })
	defer killer.Stop()
	c.done.Wait()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, &c.stderr)
	}
	return nil
}

// read takes answers until there are no more.
func (c *Core) read(stdout io.Reader) {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err == nil {
			var r response
			if err = json.Unmarshal(line, &r); err == nil {
				c.mu.Lock()
				answered := c.pending[r.ID]
				delete(c.pending, r.ID)
				c.mu.Unlock()
				if answered != nil {
					answered <- r
				}
				continue
			}
		}
		c.mu.Lock()
		c.failed = fmt.Errorf("read answers of %s: %w", program, err)
		for _, answered := range c.pending {
			close(answered)
		}
		c.pending = nil
		c.mu.Unlock()
		return
	}
}

// Call calls a method of core and decodes what it returns into result, unless that is nil. An error of core names the
// method.
func (c *Core) Call(ctx context.Context, result any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	answered := make(chan response, 1)
	if err := c.send(answered, method, params); err != nil {
		return err
	}
	select {
	case r, ok := <-answered:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", method, c.failed)
		case r.Error != nil:
			return fmt.Errorf("%s: %s", method, r.Error.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(r.Result, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// send sends a request (JSON-RPC 2.0, section 4), whose answer goes to answered. That is closed if none will come.
func (c *Core) send(answered chan<- response, method string, params []any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return c.failed
	}
	c.last++
	request, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": c.last, "method": method, "params": params})
	if err != nil {
		return err
	}
	c.pending[c.last] = answered
	_, err = c.stdin.Write(append(request, '\n'))
	return err
}

// Event is one of core's. Which fields it has besides Kind depends on that; core's documentation of the type names them.
type Event struct {
	Kind           string `json:"kind"`
	Msg            string `json:"msg"` // of Info, Warning and Error: core's log
	ChatID         uint32 `json:"chatId"`
	MsgID          uint32 `json:"msgId"`
	ContactID      uint32 `json:"contactId"`
	Progress       int    `json:"progress"` // in thousandths; 0 is failure
	PlaceCallInfo  string `json:"place_call_info"`
	AcceptCallInfo string `json:"accept_call_info"`

	account uint32
	time    time.Time // when it came here
}

// UnmarshalJSON decodes an event. Those of calls spell the names of some fields in another way than the rest.
func (e *Event) UnmarshalJSON(data []byte) error {
	type plain Event
	var call struct {
		ChatID uint32 `json:"chat_id"`
		MsgID  uint32 `json:"msg_id"`
	}
	if err := errors.Join(json.Unmarshal(data, (*plain)(e)), json.Unmarshal(data, &call)); err != nil {
		return err
	}
	e.ChatID, e.MsgID = max(e.ChatID, call.ChatID), max(e.MsgID, call.MsgID)
	return nil
}

// pollEvents keeps what happens, until core ends.
func (c *Core) pollEvents() {
	for {
		var next struct {
			ContextID uint32 `json:"contextId"`
			Event     Event  `json:"event"`
		}
		if err := c.Call(context.Background(), &next, "get_next_event"); err != nil { // 2.33.0 has no batches
			return
		}
		next.Event.account, next.Event.time = next.ContextID, time.Now()
		c.mu.Lock()
		c.events = append(c.events, next.Event)
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
	}
}

// A Moment is a place in the order of core's events.
type Moment int

// Now returns the present moment: what has happened is before it.
func (c *Core) Now() Moment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Moment(len(c.events))
}

// Wait waits for an event of the account after a moment that matches, and returns it and the moment after it. An error has
// the end of core's log.
func (a *Account) Wait(ctx context.Context, after Moment, matches func(Event) bool) (Event, Moment, error) {
	c := a.core
	for {
		c.mu.Lock()
		events, changed := c.events, c.changed
		c.mu.Unlock()
		for i, e := range events[after:] {
			if e.account == a.id && matches(e) {
				return e, after + Moment(i) + 1, nil
			}
		}
		after = Moment(len(events))
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, after, fmt.Errorf("wait for an event: %w", ctx.Err())
		}
	}
}

// Happened tells whether an event of the account after a moment, and until now, matches.
func (a *Account) Happened(after Moment, matches func(Event) bool) bool {
	a.core.mu.Lock()
	defer a.core.mu.Unlock()
	return slices.ContainsFunc(a.core.events[after:], func(e Event) bool { return e.account == a.id && matches(e) })
}

// Log returns what has happened, a line for each event. The lines of kind Info, Warning and Error are core's own log.
func (c *Core) Log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, e := range c.events {
		fmt.Fprintf(&b, "%s %d %s %s\n", e.time.Format("15:04:05.000"), e.account, e.Kind, e.Msg)
	}
	return b.String()
}
