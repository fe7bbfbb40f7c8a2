package process

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const stopLimit = 20 * time.Second

// A Child is a program in its own process group.
type Child struct {
	cmd    *exec.Cmd
	exited chan error
}

// Start starts a program whose output goes to the file log.
func Start(log string, name string, args ...string) (*Child, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &Child{cmd, make(chan error, 1)}
	go func() {
		c.exited <- cmd.Wait()
		close(c.exited) // for Stop
	}()
	return c, nil
}

// Group returns the process group of the program.
func (c *Child) Group() int { return c.cmd.Process.Pid }

// Exited receives the error with which the program ended, and is then closed.
func (c *Child) Exited() <-chan error { return c.exited }

// Stop ends the program. An interruption while connections are open is not an error.
func (c *Child) Stop() error {
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
		return nil
	case <-time.After(stopLimit):
		syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.exited
		return fmt.Errorf("%s still ran after %v", c.cmd.Path, stopLimit)
	}
}

// End returns the end of a log file.
func End(log string) string { return log[max(0, len(log)-2000):] }
