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
	// startLimit is how long the engine may take until it serves, and stopLimit how long it may take to end before it is killed.
	startLimit = 30 * time.Second
	stopLimit  = 3 * time.Second
	// maxOutput is how many bytes of the engine's standard error are kept: they say why it has ended.
	maxOutput = 16 << 10
)

// process is a running engine.
type process struct {
	cmd   *exec.Cmd
	input io.Closer     // the engine ends when it is closed
	ready chan struct{} // closed when the engine serves
	done  chan struct{} // closed when the process has ended

	// The following may be read after done is closed.
	err    error  // with which it has ended
	failed string // why it cannot serve, as it says
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
	reading.Go(func() { _, _ = input.Write(configuration) }) // an error means that it has ended, which done shows
	go func() {
		reading.Wait()
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// environment returns the part of a process environment that the engine gets: the settings of the Go runtime. The rest may contain
// secrets and addresses of the service manager.
func environment(all []string) []string {
	kept := []string{} // nil would mean all
	for _, assignment := range all {
		if strings.HasPrefix(assignment, "GO") {
			kept = append(kept, assignment)
		}
	}
	return kept
}

// read processes the messages of the engine until it ends. Other lines are dropped.
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

// await waits until the engine serves, and otherwise returns why it does not.
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

// reason returns why the engine has ended. It is called after done is closed.
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

// head keeps the beginning of what is written to it: for a panic, this is the reason.
type head struct{ buf bytes.Buffer }

// Write implements io.Writer.
func (h *head) Write(p []byte) (int, error) {
	h.buf.Write(p[:min(len(p), maxOutput-h.buf.Len())])
	return len(p), nil
}

func (h *head) String() string { return strings.TrimSpace(h.buf.String()) }
