package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// A Remote is a browser that visits pages of other servers: it is driven over its own protocol for that, the DevTools protocol of
// Chromium or Firefox's Marionette. Its methods are for one goroutine.
type Remote struct {
	cmd     *exec.Cmd
	exited  <-chan error
	control control
}

// A control speaks the protocol of a browser.
type control interface {
	visit(ctx context.Context, url string) error
	// evaluate returns the value of an expression, or of the promise that it returns, in JSON.
	evaluate(ctx context.Context, expression string) (json.RawMessage, error)
	// view sets the size of the window in pixels, and the color scheme of pages.
	view(ctx context.Context, width, height int, dark bool) error
	// screenshot returns the window in PNG, in base64.
	screenshot(ctx context.Context) (string, error)
	// problems returns what the browser has reported: exceptions, and violations of policies.
	problems() []string
	close()
}

// Open starts a browser with an empty page. Of the options, Listener is not used, and Dial has to be set. The caller has to Close it.
func Open(ctx context.Context, o Options) (*Remote, error) {
	if err := o.Kind.prepare(o); err != nil {
		return nil, fmt.Errorf("make a profile for %s: %w", o.Kind, err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	r := &Remote{}
	begin := beginDevTools
	if o.Kind == Firefox {
		begin = beginMarionette
	}
	r.cmd = o.Command(o.Program, append(o.Kind.remoteArgs(), o.Kind.args(o, "about:blank")...)...)
	r.cmd.Env = append(os.Environ(), "HOME="+o.Dir)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.cmd.WaitDelay = 5 * time.Second
	connect, err := begin(r.cmd, o)
	if err != nil {
		return nil, err
	}
	exited, err := daemon.Run(r.cmd)
	if err != nil {
		return nil, err
	}
	r.exited = exited
	if r.control, err = connect(ctx); err != nil {
		r.Close()
		return nil, fmt.Errorf("%s: %w", o.Kind, err)
	}
	return r, nil
}

// Close stops the browser.
func (r *Remote) Close() {
	syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	<-r.exited
	if r.control != nil {
		r.control.close()
	}
}

// Visit opens a page and waits until it is loaded.
func (r *Remote) Visit(ctx context.Context, url string) error {
	if err := r.control.visit(ctx, url); err != nil {
		return fmt.Errorf("visit %s: %w", url, err)
	}
	return r.Wait(ctx, `location.href !== "about:blank" && document.readyState === "complete"`)
}

// Evaluate decodes the value of a JavaScript expression, or of the promise that it returns, into value, unless that is nil.
func (r *Remote) Evaluate(ctx context.Context, value any, expression string) error {
	text, err := r.control.evaluate(ctx, expression)
	if err != nil {
		return fmt.Errorf("%s: %w", expression, err)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(text, value)
}

// Wait waits until an expression is true. It is not while the page is being replaced by another one.
func (r *Remote) Wait(ctx context.Context, condition string) error {
	for {
		var done bool
		err := r.Evaluate(ctx, &done, "Boolean("+condition+")")
		if err == nil && done {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s: %w", condition, ctx.Err()), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Screenshot returns the page in PNG, in that color scheme, in a window of that width in pixels, which is as high as the page.
func (r *Remote) Screenshot(ctx context.Context, width int, dark bool) ([]byte, error) {
	if err := r.control.view(ctx, width, 2*width, dark); err != nil {
		return nil, err
	}
	var height int
	if err := r.Evaluate(ctx, &height, "Math.ceil(document.querySelector('main').getBoundingClientRect().bottom + scrollY)"); err != nil {
		return nil, err
	}
	if err := r.control.view(ctx, width, height, dark); err != nil {
		return nil, err
	}
	if err := r.Evaluate(ctx, nil, "new Promise((resolve) => setTimeout(resolve, 300))"); err != nil { // for plots to be drawn in the new size
		return nil, err
	}
	text, err := r.control.screenshot(ctx)
	if err != nil {
		return nil, err
	}
	var png []byte
	return png, json.Unmarshal([]byte(`"`+text+`"`), &png) // base64, which is how JSON has bytes
}

// Problems returns what the browser has reported so far, as far as its protocol tells.
func (r *Remote) Problems() []string { return r.control.problems() }
