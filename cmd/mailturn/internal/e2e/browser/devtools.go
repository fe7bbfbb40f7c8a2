package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// devTools speaks Chrome's DevTools protocol over a pair of pipes: JSON messages with a NUL after each.
type devTools struct {
	to      *os.File
	from    *os.File
	done    sync.WaitGroup // of read
	session string         // of the page

	mu         sync.Mutex
	sequence   int                        // guarded by mu
	waiting    map[int]chan devToolsReply // guarded by mu
	complaints []string                   // guarded by mu
	ended      chan struct{}              // closed when the browser has gone
}

type devToolsReply struct {
	ID     int             `json:"id"`
	Method string          `json:"method"` // of an event
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// beginDevTools gives the browser its ends of the pipes.
func beginDevTools(cmd *exec.Cmd, _ Options) (func(context.Context) (control, error), error) {
	commands, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	from, replies, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{commands, replies} // 3 and 4, which --remote-debugging-pipe stands for
	return func(ctx context.Context) (control, error) {
		commands.Close()
		replies.Close()
		d := &devTools{to: to, from: from, waiting: make(map[int]chan devToolsReply), ended: make(chan struct{})}
		d.done.Go(d.read)
		if err := d.attach(ctx); err != nil {
			d.close()
			return nil, err
		}
		return d, nil
	}, nil
}

// attach opens a session with the browser's page.
func (d *devTools) attach(ctx context.Context) error {
	var created struct{ TargetID string }
	if err := d.call(ctx, &created, "Target.createTarget", map[string]any{"url": "about:blank"}); err != nil {
		return err
	}
	var attached struct{ SessionID string }
	if err := d.call(ctx, &attached, "Target.attachToTarget", map[string]any{"targetId": created.TargetID, "flatten": true}); err != nil {
		return err
	}
	d.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		if err := d.call(ctx, nil, domain+".enable", nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *devTools) read() {
	defer close(d.ended)
	r := bufio.NewReader(d.from)
	for {
		message, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var reply devToolsReply
		if json.Unmarshal(message[:len(message)-1], &reply) != nil {
			continue
		}
		d.mu.Lock()
		switch {
		case reply.Method == "Log.entryAdded" && bytes.Contains(reply.Params, []byte(`"source":"network"`)):
			// a status that is an error, such as that of a wrong password
		case reply.Method == "Log.entryAdded", reply.Method == "Runtime.exceptionThrown":
			d.complaints = append(d.complaints, string(reply.Params))
		case d.waiting[reply.ID] != nil:
			d.waiting[reply.ID] <- reply
			delete(d.waiting, reply.ID)
		}
		d.mu.Unlock()
	}
}

// call sends a command and decodes its result into value, unless that is nil.
func (d *devTools) call(ctx context.Context, value any, method string, params map[string]any) error {
	answer := make(chan devToolsReply, 1)
	d.mu.Lock()
	d.sequence++
	message := map[string]any{"id": d.sequence, "method": method, "params": params}
	if params == nil {
		message["params"] = struct{}{}
	}
	if d.session != "" {
		message["sessionId"] = d.session
	}
	d.waiting[d.sequence] = answer
	d.mu.Unlock()
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := d.to.Write(append(text, 0)); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case reply := <-answer:
		if reply.Error != nil {
			return fmt.Errorf("%s: %s", method, reply.Error.Message)
		}
		if value == nil {
			return nil
		}
		return json.Unmarshal(reply.Result, value)
	case <-d.ended:
		return fmt.Errorf("%s: %w", method, io.ErrUnexpectedEOF)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

func (d *devTools) visit(ctx context.Context, url string) error {
	var result struct{ ErrorText string }
	if err := d.call(ctx, &result, "Page.navigate", map[string]any{"url": url}); err != nil {
		return err
	}
	if result.ErrorText != "" {
		return errors.New(result.ErrorText)
	}
	return nil
}

func (d *devTools) evaluate(ctx context.Context, expression string) (json.RawMessage, error) {
	var result struct {
		Result struct {
			Value json.RawMessage
		}
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := d.call(ctx, &result, "Runtime.evaluate", map[string]any{
		"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
	})
	switch {
	case err != nil:
		return nil, err
	case result.ExceptionDetails != nil:
		return nil, errors.New(result.ExceptionDetails.Text + " " + result.ExceptionDetails.Exception.Description)
	case result.Result.Value == nil: // undefined
		return json.RawMessage("null"), nil
	}
	return result.Result.Value, nil
}

func (d *devTools) view(ctx context.Context, width, height int, dark bool) error {
	if err := d.call(ctx, nil, "Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
	}); err != nil {
		return err
	}
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	return d.call(ctx, nil, "Emulation.setEmulatedMedia", map[string]any{
		"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}},
	})
}

func (d *devTools) screenshot(ctx context.Context) (string, error) {
	var result struct{ Data string }
	err := d.call(ctx, &result, "Page.captureScreenshot", map[string]any{"format": "png"})
	return result.Data, err
}

func (d *devTools) problems() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.complaints...)
}

func (d *devTools) close() {
	d.to.Close()
	d.from.Close()
	d.done.Wait()
}
