package party

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/daemon"
)

// closeLimit is how long a program may take to end its connection and itself.
const closeLimit = 10 * time.Second

// program is a party that is a program.
type program struct {
	cmd     *exec.Cmd
	input   io.WriteCloser
	answers chan answer // closed when the program has ended
	ended   chan error  // what Wait returned

	mu       sync.Mutex // held for one call at a time
	sequence int        // guarded by mu

	stderr stderr
}

// Start runs a program that is a party: it reads calls from its standard input and writes the answers to its standard output.
// It sends messages of size bytes, rate of them a second. The caller has to Close it.
func Start(ctx context.Context, cmd *exec.Cmd, size, rate int) (*Party, error) {
	p := &program{cmd: cmd, answers: make(chan answer)}
	output, stdout := io.Pipe()
	var err error
	if p.input, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = stdout, &p.stderr
	cmd.WaitDelay = closeLimit
	exited, err := daemon.Run(cmd)
	if err != nil {
		return nil, err
	}
	p.ended = make(chan error, 1)
	go func() {
		p.ended <- <-exited
		stdout.Close()
	}()
	go p.read(output)

	party := &Party{caller: p, close: p.close}
	if err := party.begin(ctx, size, rate); err != nil {
		p.close()
		return nil, err
	}
	return party, nil
}

// read passes the answers on until the program ends.
func (p *program) read(output io.Reader) {
	defer close(p.answers)
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			fmt.Fprintf(&p.stderr, "no answer: %s", line)
			continue
		}
		p.answers <- a
	}
}

// Call sends a call and waits for its answer, and drops the late answers to calls whose ctx ended.
func (p *program) Call(ctx context.Context, value any, method string, args ...any) error {
	if args == nil {
		args = []any{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sequence++
	line, err := json.Marshal(request{p.sequence, method, args})
	if err != nil {
		return err
	}
	if _, err := p.input.Write(append(line, '\n')); err != nil {
		return p.fault(method, err)
	}
	for {
		select {
		case a, running := <-p.answers:
			switch {
			case !running:
				return p.fault(method, fmt.Errorf("the program has ended"))
			case a.ID != p.sequence:
				continue
			}
			if err := a.decode(value); err != nil {
				return p.fault(method, err)
			}
			return nil
		case <-ctx.Done():
			return p.fault(method, ctx.Err())
		}
	}
}

// fault is an error with what the program wrote.
func (p *program) fault(method string, err error) error {
	return fmt.Errorf("%s of %s: %w; it wrote:\n%s", method, filepath.Base(p.cmd.Args[len(p.cmd.Args)-1]), err, p.stderr.String())
}

// close ends the program by the end of its input, and kills it if that does not help.
func (p *program) close() error {
	p.input.Close()
	go func() {
		for range p.answers { // that nobody waits for any more
		}
	}()
	select {
	case err := <-p.ended:
		if err != nil {
			return p.fault("close", err)
		}
		return nil
	case <-time.After(closeLimit):
		p.cmd.Process.Kill()
		<-p.ended
		return p.fault("close", fmt.Errorf("still running after %v", closeLimit))
	}
}

// stderr keeps the last of what is written to it.
type stderr struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// stderrLimit is how much of it is kept, in bytes, give or take as much again.
const stderrLimit = 16 << 10

func (s *stderr) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text.Len() > 2*stderrLimit {
		s.text.Next(s.text.Len() - stderrLimit)
	}
	return s.text.Write(p)
}

func (s *stderr) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
