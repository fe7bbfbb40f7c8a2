package turn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A wireEnd is an interface in a network namespace, or in that of this process if it is empty.
type wireEnd struct{ namespace, name string }

// The interfaces of the hosts of clients and peers, and those of the servers' host for them.
const (
	clientsEnd = "clients"
	peersEnd   = "peers"
	toClients  = "to-clients"
	toPeers    = "to-peers"
)

// generatorEnds returns where packets arrive at their receivers, by generator.Client and generator.Peer.
func (n network) generatorEnds() [2]wireEnd { return [2]wireEnd{{"", clientsEnd}, {n.peers, peersEnd}} }

// serverEnds returns where packets arrive at the servers, by their senders.
func (n network) serverEnds() [2]wireEnd {
	return [2]wireEnd{{n.servers, toClients}, {n.servers, toPeers}}
}

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

// newHost makes a network namespace, which ends with leave, or with this process.
func newHost() (pid string, leave func(), err error) {
	holder := exec.Command("sleep", "infinity")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		return "", nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return strconv.Itoa(holder.Process.Pid), func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}, nil
}

// joinNamespaces makes two more network namespaces, for servers and for peers, and joins those of clients and of peers to that of the
// servers by a veth pair each. They have no names, so they disappear with their processes.
func joinNamespaces(ctx context.Context) (_ network, leave func(), err error) {
	servers, leaveServers, err := newHost()
	if err != nil {
		return network{}, nil, err
	}
	peers, leavePeers, err := newHost()
	if err != nil {
		leaveServers()
		return network{}, nil, err
	}
	leave = func() { leavePeers(); leaveServers() }
	in := func(pid string) []string { return []string{"nsenter", "--target", pid, "--net", "--"} }
	file := func(pid string) string { return "/proc/" + pid + "/ns/net" }
	n := network{name: "from client to server to peer, three hosts joined by two veth pairs", first: 10, run: in(servers), servers: file(servers), peers: file(peers)}
	atServers := []string{
		"ip link set lo up",
		"ip link set " + toClients + " up",
		"ip link set " + toPeers + " up",
		"ip addr add 10.1.0.1/24 dev " + toPeers,
		"ip route add 10.192.0.0/10 via 10.1.0.2",
	}
	for i := range maxServers {
		atServers = append(atServers, fmt.Sprintf("ip addr add %v/24 dev %s", n.server(i), toClients))
	}
	atServers = append(atServers, "ip route add 10.128.0.0/10 via 10.0.0.254")
	for _, host := range []struct {
		run      []string
		commands []string
	}{
		{nil, []string{
			"ip link set lo up",
			"ip link add " + clientsEnd + " type veth peer name " + toClients + " netns " + servers,
			"ip addr add 10.0.0.254/24 dev " + clientsEnd,
			"ip link set " + clientsEnd + " up",
			"ip route add local 10.128.0.0/10 dev lo", // all addresses of clients
		}},
		{in(peers), []string{
			"ip link set lo up",
			"ip link add " + peersEnd + " type veth peer name " + toPeers + " netns " + servers,
			"ip addr add 10.1.0.2/24 dev " + peersEnd,
			"ip link set " + peersEnd + " up",
			"ip route add 10.0.0.0/24 via 10.1.0.1",
			"ip route add local 10.192.0.0/10 dev lo", // all addresses of peers
		}},
		{n.run, atServers},
	} {
		for _, command := range host.commands {
			if err := runIn(ctx, host.run, command); err != nil {
				leave()
				return network{}, nil, err
			}
		}
	}
	return n, leave, nil
}

// runIn runs a command. in is the beginning of a command line that runs it elsewhere.
func runIn(ctx context.Context, in []string, command string) error {
	words := append(slices.Clone(in), strings.Fields(command)...)
	if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	return nil
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
