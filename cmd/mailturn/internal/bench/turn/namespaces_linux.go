package turn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// The ends of the veth pair, in the namespaces of the generator and of the servers.
const (
	generatorEnd = "generator"
	serverEnd    = "server"
)

// inNamespace runs this program with other arguments, in a new network namespace.
func inNamespace(ctx context.Context, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	return cmd.Run()
}

// joinNamespaces makes a second namespace, for servers, and joins it to that of this process by a veth pair. Neither has a name, so
// both disappear with their processes.
func joinNamespaces(ctx context.Context) (_ network, leave func(), err error) {
	n := network{name: "in two network namespaces joined by a veth pair", first: 10}
	holder := exec.Command("sleep", "infinity")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		return network{}, nil, fmt.Errorf("make a network namespace: %w", err)
	}
	leave = func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}
	pid := strconv.Itoa(holder.Process.Pid)
	n.run = []string{"nsenter", "--target", pid, "--net", "--"}
	n.namespace = "/proc/" + pid + "/ns/net"
	commands := []string{
		"ip link set lo up",
		"ip link add " + generatorEnd + " type veth peer name " + serverEnd + " netns " + pid,
		"ip addr add 10.0.0.254/24 dev " + generatorEnd,
		"ip link set " + generatorEnd + " up",
		"ip route add local 10.128.0.0/9 dev lo", // all addresses of clients and peers
	}
	inside := []string{"ip link set lo up", "ip link set " + serverEnd + " up"}
	for i := range maxServers {
		inside = append(inside, fmt.Sprintf("ip addr add %v/24 dev %s", n.server(i), serverEnd))
	}
	inside = append(inside, "ip route add 10.128.0.0/9 via 10.0.0.254")
	for _, command := range inside {
		commands = append(commands, strings.Join(n.run, " ")+" "+command)
	}
	for _, command := range commands {
		words := strings.Fields(command)
		if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
			leave()
			return network{}, nil, fmt.Errorf("%s: %w\n%s", command, err, out)
		}
	}
	return n, leave, nil
}

// mayJoinNamespaces returns nil if joinNamespaces can be expected to work.
func mayJoinNamespaces() error {
	if os.Getuid() != 0 {
		return errors.New("network namespaces need root")
	}
	for _, program := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	return nil
}
