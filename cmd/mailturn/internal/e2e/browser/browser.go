// Package browser runs headless Chromium and Firefox-ESR as WebRTC peers for tests.
//
// There is no driver between the test and the browser in a call: the browser opens a page that the test serves, and the page fetches
// its instructions and posts the results. This works the same in every browser and needs nothing but the browser.
package browser

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

//go:embed page.html
var pageHTML []byte

//go:embed peer.js
var peerJS []byte

//go:embed party.mjs
var partyJS []byte

//go:embed calls.js
var callsJS []byte

// readyLimit is how long a browser may take to open the page. An idle machine needs a few seconds.
const readyLimit = 90 * time.Second

// pollInterval is how long a page waits for a call before it asks again. Firefox forgets requests that take minutes.
const pollInterval = 5 * time.Second

// Options say which browser is started, and where.
type Options struct {
	// Kind is the browser.
	Kind Kind
	// Program is the path of its executable.
	Program string
	// Dir is an empty directory for the profile.
	Dir string
	// CA is the file of a CA certificate in PEM that the profile trusts besides the well-known ones. Empty means none.
	CA string
	// Certutil is the path of NSS's certutil, with which CA is put into the profile.
	Certutil string
	// Command returns a command that runs a program where the browser is to run, as exec.Command does for this process.
	Command func(program string, args ...string) *exec.Cmd
	// Listener accepts the connections of the page. It must be on loopback for the browser, which allows pages without TLS no
	// camera and no microphone elsewhere.
	Listener net.Listener
	// Dial connects to an address where the browser runs, for Open.
	Dial func(network, address string) (net.Conn, error)
}

// Browser is a running browser with one page. Its methods are safe for concurrent use.
type Browser struct {
	cmd    *exec.Cmd
	server *http.Server
	done   sync.WaitGroup // the server and the wait for the process

	calls chan call
	ready chan struct{} // closed when the page runs
	ended chan struct{} // closed when the process has ended

	mu       sync.Mutex
	sequence int                   // guarded by mu
	waiting  map[int]chan<- result // guarded by mu, by call.ID
	console  bytes.Buffer          // guarded by mu
}

// call is one call of a method of peer.js on its way to the page.
type call struct {
	ID     int    `json:"id"`
	Method string `json:"method"`
	Args   []any  `json:"args"`
}

type result struct {
	ID    int             `json:"id"`
	Value json.RawMessage `json:"value"`
	Error string          `json:"error"`
}

// Start starts a browser and waits until its page runs. The caller has to Close it.
func Start(ctx context.Context, o Options) (*Browser, error) {
	if err := o.Kind.prepare(o); err != nil {
		return nil, fmt.Errorf("make a profile for %s: %w", o.Kind, err)
	}
	b := &Browser{
		calls: make(chan call), ready: make(chan struct{}), ended: make(chan struct{}), waiting: make(map[int]chan<- result),
	}
	b.server = &http.Server{Handler: b.handler(), ReadHeaderTimeout: readyLimit}
	b.done.Go(func() { b.server.Serve(o.Listener) })

	b.cmd = o.Command(o.Program, o.Kind.args(o, fmt.Sprintf("http://%s/", o.Listener.Addr()))...)
	b.cmd.Env = append(os.Environ(), "HOME="+o.Dir)
	b.cmd.Stdout, b.cmd.Stderr = (*consoleWriter)(b), (*consoleWriter)(b)
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that Close ends its children as well
	b.cmd.WaitDelay = 5 * time.Second
	exited, err := daemon.Run(b.cmd)
	if err != nil {
		b.server.Close()
		b.done.Wait()
		return nil, err
	}
	b.done.Go(func() {
		<-exited
		close(b.ended)
	})

	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	select {
	case <-b.ready:
		return b, nil
	case <-b.ended:
		err = errors.New("it ended before its page ran")
	case <-ctx.Done():
		err = fmt.Errorf("its page did not run in %v", readyLimit)
	}
	b.Close()
	return nil, fmt.Errorf("%s: %w; it wrote:\n%s", o.Kind, err, b.Console())
}

// Close stops the browser.
func (b *Browser) Close() {
	syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
	b.server.Close()
	b.done.Wait()
}

// Console returns what the page and the browser have written so far, for a test that has failed.
func (b *Browser) Console() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.console.String()
}

// Call calls a method of the object peer in peer.js, or of party.mjs if it starts with "party.", and waits for what it resolves
// to, which is decoded into value unless that is nil. The error is what the method threw, or that of ctx, or says that the
// browser has ended.
func (b *Browser) Call(ctx context.Context, value any, method string, args ...any) error {
	answer := make(chan result, 1)
	b.mu.Lock()
	b.sequence++
	id := b.sequence
	b.waiting[id] = answer
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.waiting, id)
	}()

	if args == nil {
		args = []any{}
	}
	select {
	case b.calls <- call{ID: id, Method: method, Args: args}:
	case <-b.ended:
		return fmt.Errorf("%s: the browser has ended", method)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
	select {
	case r := <-answer:
		if r.Error != "" {
			return fmt.Errorf("%s: %s", method, r.Error)
		}
		if value == nil {
			return nil
		}
		return json.Unmarshal(r.Value, value)
	case <-b.ended:
		return fmt.Errorf("%s: the browser has ended", method)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

func (b *Browser) handler() http.Handler {
	mux := http.NewServeMux()
	file := func(pattern, mediaType string, content []byte) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			w.Write(content)
		})
	}
	file("GET /{$}", "text/html", pageHTML)
	file("GET /peer.js", "text/javascript", peerJS)
	file("GET /party.mjs", "text/javascript", partyJS)
	file("GET /calls.js", "text/javascript", callsJS)

	var once sync.Once
	mux.HandleFunc("POST /ready", func(http.ResponseWriter, *http.Request) {
		once.Do(func() { close(b.ready) })
	})
	mux.HandleFunc("GET /call", func(w http.ResponseWriter, r *http.Request) {
		select {
		case c := <-b.calls:
			json.NewEncoder(w).Encode(c)
		case <-time.After(pollInterval):
			w.WriteHeader(http.StatusNoContent)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /result", func(_ http.ResponseWriter, r *http.Request) {
		var answer result
		if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
			answer.Error = err.Error()
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if waiting := b.waiting[answer.ID]; waiting != nil {
			waiting <- answer
		}
	})
	mux.HandleFunc("POST /console", func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		fmt.Fprintf((*consoleWriter)(b), "page: %s\n", text)
	})
	return mux
}

// noise is in lines that headless browsers write on any machine without a desktop and a sound card.
var noise = []string{"dbus", "ALSA lib", "alsa_util", "RenderCompositorSWGL"}

// consoleWriter takes what the process writes, apart from noise.
type consoleWriter Browser

func (w *consoleWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		if !slices.ContainsFunc(noise, func(word string) bool { return strings.Contains(line, word) }) {
			w.console.WriteString(line)
		}
	}
	return len(p), nil
}
