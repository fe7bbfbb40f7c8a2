package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSharedPortUpgrade upgrades mailturn while clients connect to a shared port, and checks that none is refused, that connections to
// the fallback go on if they are in use, and that a reload changes the fallback.
func TestSharedPortUpgrade(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("upgrades need Linux")
	}
	t.Parallel()
	p := freePorts(t)
	first, second := echoServer(t, "first"), echoServer(t, "second")
	config := configure(t, p, allowLoopback, "upgrade_timeout = \"1s\"\n  max_unauthenticated = 1000\n  max_unauthenticated_network = 10000")
	text, err := os.ReadFile(config)
	must(t, err)
	shared := func(fallback string) []byte {
		block := fmt.Sprintf("shared_port \"tls://127.0.0.1:%d\" {\n  fallback = \"tcp://%s\"\n}\n", p.turns, fallback)
		return append([]byte(block), strings.Replace(string(text), fmt.Sprintf(`"tls://127.0.0.1:%d", "tcp`, p.imaps), fmt.Sprintf(`"tls://127.0.0.1:%d", "tcp`, p.turns), 1)...)
	}
	must(t, os.WriteFile(config, shared(first), 0o600))
	i := newInstallation(t, binary, config)
	control, err := os.ReadFile(config)
	must(t, err)
	_, firstEnded := i.start(t, t.TempDir())
	through := connect(t, p.turns)
	fmt.Fprint(through, "SSH-2.0-before\r\n")
	lines := bufio.NewReader(through)
	echoed := func(want string) {
		t.Helper()
		if line, err := lines.ReadString('\n'); err != nil || line != want {
			t.Fatalf("through the port: %q, %v, want %q", line, err, want)
		}
	}
	echoed("first\n")
	echoed("SSH-2.0-before\r\n")
	must(t, os.WriteFile(config, []byte(strings.Replace(string(control), first, second, 1)), 0o600))
	must(t, i.ctl(nil, "ctl", "reload"))

	stop, failures := make(chan struct{}), make(chan error, 1000)
	var knocking sync.WaitGroup
	for _, alpn := range []string{"imap", ""} {
		knocking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := greetedBy(p.turns, alpn); err != nil {
					failures <- err
				}
			}
		})
	}
	knocking.Go(func() { // so that the process before does not find the connection quiet
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
			fmt.Fprint(through, "still here\n")
			if line, err := lines.ReadString('\n'); err != nil || line != "still here\n" {
				failures <- fmt.Errorf("through the port: %q, %w", line, err)
				return
			}
		}
	})
	i.upgrade(t)
	time.Sleep(2 * time.Second) // in which the process before would end what is quiet
	close(stop)
	knocking.Wait()
	close(failures)
	for err := range failures {
		t.Errorf("during the upgrade: %v", err)
	}
	through.Close()
	again := connect(t, p.turns)
	fmt.Fprint(again, "SSH-2.0-after\r\n")
	if line, err := bufio.NewReader(again).ReadString('\n'); line != "second\n" {
		t.Errorf("after the reload and the upgrade: %q, %v", line, err)
	}
	select {
	case <-firstEnded:
	case <-time.After(stopLimit):
		t.Error("the first process still runs")
	}
}

// TestSharedPortStop stops mailturn while a client is about to say what it wants, and checks that it reaches its endpoint.
func TestSharedPortStop(t *testing.T) {
	t.Parallel()
	p := freePorts(t)
	config := configure(t, p, allowLoopback, "")
	text, err := os.ReadFile(config)
	must(t, err)
	shared := strings.Replace(string(text), fmt.Sprintf(`"tls://127.0.0.1:%d", "tcp`, p.imaps), fmt.Sprintf(`"tls://127.0.0.1:%d", "tcp`, p.turns), 1)
	must(t, os.WriteFile(config, []byte(shared), 0o600))
	s := start(t, t.TempDir(), "--config", config)
	under := &halting{Conn: connect(t, p.turns), halted: make(chan struct{}), goOn: make(chan struct{})}
	under.SetDeadline(time.Now().Add(stopLimit))
	greeting := make(chan string, 1)
	go func() {
		secured := tls.Client(under, &tls.Config{NextProtos: []string{"imap"}, InsecureSkipVerify: true})
		line, err := bufio.NewReader(secured).ReadString('\n')
		greeting <- fmt.Sprint(line, err)
	}()
	<-under.halted
	must(t, greetedBy(p.turns, "imap")) // so the port has accepted the connection before
	var stopping sync.WaitGroup
	stopping.Go(func() { s.stop(t) })
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.turns))
		if err != nil {
			break
		}
		conn.Close()
		time.Sleep(10 * time.Millisecond)
	}
	close(under.goOn)
	if line := <-greeting; !strings.HasPrefix(line, "* ") {
		t.Errorf("greeted with %q", line)
	}
	stopping.Wait()
}

// halting is a connection that halts after the first byte.
type halting struct {
	net.Conn
	halted, goOn chan struct{}
	begun        bool
}

func (h *halting) Write(b []byte) (int, error) {
	if h.begun {
		return h.Conn.Write(b)
	}
	h.begun = true
	if n, err := h.Conn.Write(b[:1]); err != nil {
		return n, err
	}
	close(h.halted)
	<-h.goOn
	n, err := h.Conn.Write(b[1:])
	return n + 1, err
}

// greetedBy connects to a port with TLS, and returns an error unless it is greeted by the IMAP endpoint.
func greetedBy(port int, alpn string) error {
	config := &tls.Config{ServerName: "localhost", InsecureSkipVerify: true}
	if alpn != "" {
		config.NextProtos = []string{alpn}
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", fmt.Sprintf("127.0.0.1:%d", port), config)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "* OK") && !strings.HasPrefix(line, "* BYE") {
		return fmt.Errorf("greeted with %q, %w", line, err)
	}
	return nil
}

// echoServer sends its name and everything that it receives, and returns its address.
func echoServer(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintln(conn, name)
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}
