package turntest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Network is three hosts in network namespaces: the client's, the server's and the peer's, each with an interface for each of its
// neighbours.
type Network struct {
	Client, Server, Peer string // names of the namespaces
	ToClient, ToPeer     int    // interfaces of the server: veth1 and veth2
}

// NewNetwork makes a network of IPv4 and IPv6, or skips the test where that is not possible.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil && os.Getenv("MAILTURN_E2E") == "" {
		t.Skip("requires ip(8) of iproute2")
	}
	if os.Geteuid() != 0 {
		t.Skip("requires root, for network namespaces")
	}
	n := &Network{}
	for _, host := range []struct {
		name *string
		role string
	}{{&n.Client, "client"}, {&n.Server, "server"}, {&n.Peer, "peer"}} {
		*host.name = fmt.Sprintf("mailturn-kernel-%d-%s", os.Getpid(), host.role)
		IP(t, "netns", "add", *host.name)
		t.Cleanup(func() { IP(t, "netns", "delete", *host.name) })
		IP(t, "-n", *host.name, "link", "set", "lo", "up")
	}
	n.connect(t, n.Client, "1")
	n.connect(t, n.Peer, "2")
	n.In(t, n.Server, func() {
		for name, index := range map[string]*int{"veth1": &n.ToClient, "veth2": &n.ToPeer} {
			i, err := net.InterfaceByName(name)
			if err != nil {
				t.Fatal(err)
			}
			*index = i.Index
		}
	})
	return n
}

// connect connects a host to the server.
func (n *Network) connect(t testing.TB, host, number string) {
	t.Helper()
	IP(t, "-n", host, "link", "add", "veth", "type", "veth", "peer", "name", "veth"+number, "netns", n.Server)
	for _, end := range [][3]string{{host, "veth", "2"}, {n.Server, "veth" + number, "1"}} {
		IP(t, "-n", end[0], "addr", "add", "198.18."+number+"."+end[2]+"/24", "dev", end[1])
		IP(t, "-n", end[0], "addr", "add", "fd18:"+number+"::"+end[2]+"/64", "dev", end[1], "nodad")
		IP(t, "-n", end[0], "link", "set", end[1], "up")
		n.In(t, end[0], func() { OffloadChecksums(t, end[1], false) })
	}
}

// IP calls ip(8).
func IP(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// In calls f on a thread in a namespace. Sockets that f opens stay there.
func (n *Network) In(t testing.TB, name string, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		err := errors.New("the function ended the test")
		defer func() { done <- err }()
		runtime.LockOSThread() // and never unlocked, so that the thread ends
		var namespace *os.File
		if namespace, err = os.Open("/run/netns/" + name); err == nil {
			defer namespace.Close()
			err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			f()
		}
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// OffloadChecksums determines whether senders leave it to an interface to compute checksums. Here, nothing would compute them, as
// between machines on one host. If they do not, packets arrive as from a real network.
func OffloadChecksums(t testing.TB, name string, on bool) {
	t.Helper()
	const setTransmitChecksums = 0x17 // ETHTOOL_STXCSUM
	value := struct{ command, data uint32 }{command: setTransmitChecksums}
	if on {
		value.data = 1
	}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], name)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		t.Fatal("ethtool: ", errno)
	}
}

// Listen opens a UDP socket in a namespace.
func (n *Network) Listen(t testing.TB, name string, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	n.In(t, name, func() {
		var err error
		if conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr)); err != nil {
			t.Error(err)
		}
	})
	if conn == nil {
		t.FailNow()
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
