// Package daemon runs somebody else's server in the foreground, for as long as a test or a measurement needs it.
package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	startLimit = time.Minute
	stopLimit  = 20 * time.Second
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
	exited, err := Run(cmd)
	if err != nil {
		return nil, err
	}
	go func() {
		<-exited
		close(d.exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
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

// The ports that FreePort gives are below those that the system gives to whoever asks for any: from 32768 on where nobody
// has changed net.ipv4.ip_local_port_range. One of those could be taken between here and the server's start.
const firstPort, portCount = 20000, 12768

// given counts the ports that this process has looked at.
var given atomic.Uint32

// FreePort returns a port of the host that is free for TCP and UDP, for servers that cannot say which one they got. Each
// call returns another one, and processes begin at different ones.
func FreePort(host string) (int, error) {
	for range portCount {
		port := firstPort + int((uint32(os.Getpid())*97+given.Add(1))%portCount)
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		tcp.Close()
		if udp, err := net.ListenPacket("udp", addr); err == nil {
			udp.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port of %s is free from %d to %d", host, firstPort, firstPort+portCount-1)
}

// FreeAddr returns the host with a port from FreePort.
func FreeAddr(host string) (string, error) {
	port, err := FreePort(host)
	return net.JoinHostPort(host, strconv.Itoa(port)), err
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
