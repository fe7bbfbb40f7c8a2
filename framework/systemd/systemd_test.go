package systemd

import (
	"bufio"
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestNameOf(t *testing.T) {
	for hostPort, want := range map[string]string{
		"0.0.0.0:993":                         "listen-0.0.0.0_993",
		"[2001:db8::1]:143":                   "listen-[2001_db8__1]_143",
		":993":                                "listen-_993",
		"127.0.0.1:0":                         "", // another port each time
		strings.Repeat("x", maxName) + ":993": "",
		"m\u00fcller.example:993":             "",
	} {
		if got := nameOf(hostPort); got != want {
			t.Errorf("%s: got %q, want %q", hostPort, got, want)
		}
	}
}

// TestInherit runs this test again in a process that is passed two listeners with one name, a socket of another kind with the name of
// a listener, and a foreign descriptor.
func TestInherit(t *testing.T) {
	if addr := os.Getenv("TEST_INHERIT"); addr != "" {
		inheritHere(t, addr)
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var waiting []net.Conn
	for _, l := range []net.Listener{listener, second} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		waiting = append(waiting, conn)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0], "-test.run=^TestInherit$", "-test.v")
	for _, socket := range []interface{ File() (*os.File, error) }{listener.(*net.TCPListener), second.(*net.TCPListener), packets.(*net.UDPConn), listener.(*net.TCPListener)} {
		file, err := socket.File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	listener.Close()
	second.Close()
	packets.Close()
	names := strings.Repeat(nameOf(listener.Addr().String())+":", 2) + nameOf(packets.LocalAddr().String()) + ":stored"
	cmd.Env = append(os.Environ(), "TEST_INHERIT="+listener.Addr().String()+" "+packets.LocalAddr().String(), "LISTEN_FDS=4", "LISTEN_FDNAMES="+names)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, conn := range waiting {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "served\n" {
			t.Errorf("the connection that waited at listener %d got %q, %v\n%s", i, line, err, out)
		}
	}
}

func inheritHere(t *testing.T, addrs string) {
	var logged bytes.Buffer
	l := Inherit(Manager{}, nil, slog.New(slog.NewTextHandler(&logged, nil)))
	if os.Getenv("LISTEN_FDS") != "" {
		t.Error("the environment still names descriptors")
	}
	addr, packets, _ := strings.Cut(addrs, " ")
	listener, err := l.Listen(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("served\n"))
		conn.Close()
	}
	if _, err := net.Listen("tcp", addr); err == nil {
		t.Error("the port was not the inherited socket's")
	}
	other, err := l.Listen(t.Context(), packets) // binds, because what was stored under the name is no listener
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener accepts with %v", err)
	}
	for _, want := range []string{"unknown descriptor from the service manager closed", "socket from the service manager not used"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, &logged)
		}
	}
}

// TestDescriptorsOfAnother checks that variables meant for another process, such as the parent, are ignored.
func TestDescriptorsOfAnother(t *testing.T) {
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getppid()))
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("LISTEN_FDNAMES", nameOf("127.0.0.1:993"))
	if l := Inherit(Manager{}, nil, slog.New(slog.DiscardHandler)); len(l.inherited) != 0 {
		t.Errorf("took %v", l.inherited)
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := (Manager{path}).Notify("READY=1", "STATUS=serving"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "READY=1\nSTATUS=serving" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	if err := (Manager{}).Notify("READY=1"); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	if err := (Manager{path + ".gone"}).Notify("READY=1"); err == nil {
		t.Error("Notify without a manager reports success")
	}
}
