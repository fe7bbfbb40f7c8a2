// Package daemon runs somebody else's server in the foreground, for as long as a test or a measurement needs it.
package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = 20 * time.Second
	stopLimit  = 10 * time.Second
)

// Daemon is a running server.
type Daemon struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
	log    logBuffer
}

// Start runs cmd in a session of its own, and returns once what it writes contains ready: it then listens. Where its output
// goes, WaitDelay and SysProcAttr.Setsid are set here. ctx bounds only the start.
func Start(ctx context.Context, cmd *exec.Cmd, ready string) (*Daemon, error) {
	d := &Daemon{cmd: cmd, exited: make(chan struct{}), log: logBuffer{ready: []byte(ready), seen: make(chan struct{})}}
	cmd.Stdout, cmd.Stderr = &d.log, &d.log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setsid = true
	cmd.WaitDelay = stopLimit // for a child that outlives it and keeps its output open
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		cmd.Wait()
		close(d.exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var err error
	select {
	case <-d.log.seen:
		return d, nil
	case <-d.exited:
		err = errors.New("it ended at once")
	case <-ctx.Done():
		err = ctx.Err()
	}
	d.Stop()
	return nil, fmt.Errorf("start %s: %w\n%s", filepath.Base(cmd.Path), err, d.Log())
}

// PID is the process ID of the server, and of the process group of all that it starts.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Log returns what the server has written so far.
func (d *Daemon) Log() string { return d.log.String() }

// Stop sends SIGTERM and waits until the server has ended. One that does not end is killed, with its group, and that is an
// error.
func (d *Daemon) Stop() error {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
		return nil
	case <-time.After(stopLimit):
		syscall.Kill(-d.PID(), syscall.SIGKILL)
		<-d.exited
		return fmt.Errorf("%s still ran after %v", filepath.Base(d.cmd.Path), stopLimit)
	}
}

// FreeAddr returns a TCP address of the host that was free a moment ago, for servers that cannot say which one they got.
func FreeAddr(host string) (string, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// logBuffer keeps what is written to it, and closes seen when that contains ready.
type logBuffer struct {
	ready []byte
	seen  chan struct{}

	mu   sync.Mutex // guards text and up
	text bytes.Buffer
	up   bool
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if !l.up && bytes.Contains(l.text.Bytes(), l.ready) {
		l.up = true
		close(l.seen)
	}
	return len(p), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
