//go:build amd64 || arm64

package turnsrv

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// TestKernelPathProcess stops a server's process for a while, kills it, and starts it again many times. While it is stopped, the
// kernel relays for some seconds and then leaves packets to the sockets, where they wait: nothing is lost. After it has been killed,
// nothing is relayed.
func TestKernelPathProcess(t *testing.T) {
	stop, load := 7*time.Second, 0 // how long the process is stopped, and how many packets per second arrive while it is killed
	if os.Getenv(longVariable) != "" {
		stop, load = 10*time.Second, 2000
	}
	n := inNetwork(t)
	if n == nil {
		return
	}
	f := networkFamilies[0]
	child := startKernelServer(t)
	k := &kernelServer{network: n}
	c := k.call(t, f, 0x4000)
	for range 20 { // more than the kernel takes to begin
		c.exchange(t, "hello")
	}

	child.signal(t, syscall.SIGSTOP)
	messages := int(stop / (100 * time.Millisecond))
	arrived := 0
	for i := range messages {
		c.client.write(turntest.ChannelData(c.number, fmt.Sprint("stopped ", i)))
		time.Sleep(100 * time.Millisecond) // of the clock of the kernel, which cannot be faked
		for arrived <= i && c.tryAtPeer(time.Millisecond) == fmt.Sprint("stopped ", arrived) {
			arrived++
		}
	}
	if arrived < 30 || arrived == messages {
		t.Errorf("%d of %d messages arrived while the process was stopped: want those of some five seconds", arrived, messages)
	}
	child.signal(t, syscall.SIGCONT)
	for ; arrived < messages; arrived++ {
		c.atPeer(t, fmt.Sprint("stopped ", arrived))
	}
	c.exchange(t, "after the stop")

	child.signal(t, syscall.SIGKILL)
	_ = child.cmd.Wait()
	_, _ = c.client.conn.Write(turntest.ChannelData(c.number, "after the end"))
	if got := c.tryAtPeer(100 * time.Millisecond); got != "" {
		t.Errorf("a process that was killed has relayed %q", got)
	}
	ended := make(chan struct{})
	var sending sync.WaitGroup
	if load > 0 { // on the channel of the call above, to a server that may know it or not, and from its peer
		sending.Go(func() {
			tick := time.NewTicker(time.Second / time.Duration(load))
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					_, _ = c.client.conn.Write(turntest.ChannelData(c.number, "load")) // errors are those of a server that is gone
					_, _ = c.peer.WriteToUDPAddrPort([]byte("load"), c.relayed)
				case <-ended:
					return
				}
			}
		})
	}
	defer sending.Wait()
	defer close(ended)
	for range 100 {
		child := startKernelServer(t)
		c := k.call(t, f, 0x4001)
		for range 5 {
			c.exchange(t, "again")
		}
		child.signal(t, syscall.SIGKILL)
		_ = child.cmd.Wait()
	}
}

// tryAtPeer returns what has arrived at the peer, or nothing.
func (c *kernelCall) tryAtPeer(timeout time.Duration) string {
	b := make([]byte, 2048)
	_ = c.peer.SetReadDeadline(time.Now().Add(timeout))
	n, _, err := c.peer.ReadFromUDPAddrPort(b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// kernelProcess is a server in a process of its own.
type kernelProcess struct{ cmd *exec.Cmd }

func (p kernelProcess) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// startKernelServer runs TestKernelServer in another process, in the same namespace.
func startKernelServer(t *testing.T) kernelProcess {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := kernelProcess{exec.CommandContext(ctx, program, "-test.run", "^TestKernelServer$")}
	p.cmd.Env = append(os.Environ(), serveVariable+"=yes")
	input, err := p.cmd.StdinPipe() // it ends with this process
	if err != nil {
		t.Fatal(err)
	}
	output, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = input.Close(); _ = p.cmd.Wait() })
	if line, err := bufio.NewReader(output).ReadString('\n'); line != "serving\n" {
		t.Fatalf("the server says %q (%v)", line, err)
	}
	return p
}

const (
	serveVariable = "MAILTURN_TEST_SERVE"
	// longVariable makes tests of the kernel path take longer, and test more.
	longVariable = "MAILTURN_KERNEL_LONG"
)

// TestKernelServer is the server of TestKernelPathProcess.
func TestKernelServer(t *testing.T) {
	if os.Getenv(serveVariable) == "" {
		return
	}
	serveKernel(t, inNetwork(t), KernelPathOn)
	fmt.Println("serving")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
