package pion

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// startLimit is how long the engine may take to serve, and stopLimit how long to end before it is killed.
	startLimit = 30 * time.Second
	stopLimit  = 3 * time.Second
	// maxOutput is how much is kept of what the engine writes on its standard error, which is its last words, in bytes.
	maxOutput = 16 << 10
)

// process is a running engine.
type process struct {
	cmd   *exec.Cmd
	input io.Closer     // the engine ends when it is closed
	ready chan struct{} // closed when the engine serves
	done  chan struct{} // closed when the process has ended

	// What follows is to be read when done is closed.
	err    error  // how it has ended
	failed string // why it cannot serve, in its own words
	output head
}

// launch starts the engine with its configuration and sockets. Its log lines go to logger.
func launch(command []string, configuration []byte, sockets []*os.File, logger *slog.Logger) (*process, error) {
	p := &process{cmd: exec.Command(command[0], command[1:]...), ready: make(chan struct{}), done: make(chan struct{})}
	p.cmd.Args[0] = "mailturn"
	p.cmd.Env = environment(os.Environ())
	p.cmd.ExtraFiles = sockets
	p.cmd.Stderr = &p.output
	input, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.input = input
	messages, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the TURN engine: %w", err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { p.read(messages, logger) })
	reading.Go(func() { _, _ = input.Write(configuration) }) // an error means that it has ended, which done tells
	go func() {
		reading.Wait()
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// environment is what the engine gets of a process environment: the settings of the Go runtime. The rest may hold secrets, and
// addresses of the service manager.
func environment(all []string) []string {
	kept := []string{} // nil would be all
	for _, assignment := range all {
		if strings.HasPrefix(assignment, "GO") {
			kept = append(kept, assignment)
		}
	}
	return kept
}

// read takes what the engine says until it ends. Lines that are no message are dropped.
func (p *process) read(from io.Reader, logger *slog.Logger) {
	lines := newLineReader(from)
	for {
		line, err := lines.next()
		if err != nil {
			return
		}
		var m message
		switch err := json.Unmarshal(line, &m); {
		case err != nil:
		case m.Ready:
			select {
			case <-p.ready:
			default:
				close(p.ready)
			}
		case m.Failed != "":
			p.failed = m.Failed
		default:
			forward(logger, line)
		}
	}
}

// await waits until the engine serves, and returns why it does not.
func (p *process) await(stopped <-chan struct{}) error {
	timer := time.NewTimer(startLimit)
	defer timer.Stop()
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		return p.reason()
	case <-stopped:
		return errors.New("stopped before it served")
	case <-timer.C:
		return fmt.Errorf("the TURN engine does not serve after %v", startLimit)
	}
}

// reason says why the engine has ended. It is called when done is closed.
func (p *process) reason() error {
	switch {
	case p.failed != "":
		return errors.New(p.failed)
	case p.err != nil:
		return fmt.Errorf("the TURN engine ended: %w", p.err)
	}
	return errors.New("the TURN engine ended")
}

// stop ends the engine, and kills it if that takes too long.
func (p *process) stop() {
	_ = p.input.Close()
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// head keeps the beginning of what is written to it: of a panic that is the reason.
type head struct{ buf bytes.Buffer }

// Write implements io.Writer.
func (h *head) Write(p []byte) (int, error) {
	h.buf.Write(p[:min(len(p), maxOutput-h.buf.Len())])
	return len(p), nil
}

func (h *head) String() string { return strings.TrimSpace(h.buf.String()) }
