package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/pionturn"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	turnSecret = "a secret of the benchmark, 32 bytes"
	turnRealm  = "example.org"
)

// A turnServer is a program that can be measured.
type turnServer struct {
	name string
	host string // an address of loopback of its own, so that its relay ports are
	cpu  *int   // the only one that it may use; nil is any
	// command is what serves on addr. dir is for its files.
	command func(dir string, addr netip.AddrPort) ([]string, error)
}

// runningTurn is a started one.
type runningTurn struct {
	name    string
	addr    netip.AddrPort
	process *server
	child   *child
	logFile string
}

func turnServerNames() []string { return []string{"mailturn", "coturn", "pion"} }

func turnServers(ctx context.Context, dir string) ([]turnServer, error) {
	binary, err := buildMailturn(ctx, dir)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	names := turnServerNames()
	return []turnServer{
		mailturnServer(names[0], "127.0.0.1", binary),
		{name: names[1], host: "127.0.0.2", command: func(dir string, addr netip.AddrPort) ([]string, error) {
			return []string{
				"turnserver", "-n", "--listening-ip", addr.Addr().String(), "--listening-port", fmt.Sprint(addr.Port()),
				"--relay-ip", addr.Addr().String(), "--realm", turnRealm, "--use-auth-secret", "--static-auth-secret", turnSecret,
				"--allow-loopback-peers", "--no-tcp", "--no-tls", "--no-dtls", "--no-cli", "--userdb", filepath.Join(dir, "turndb"),
				"--pidfile", filepath.Join(dir, "turnserver.pid"), "--log-file", "/dev/null", "--no-stdout-log",
			}, nil
		}},
		{name: names[2], host: "127.0.0.3", command: func(_ string, addr netip.AddrPort) ([]string, error) {
			return []string{self, "pion", addr.String()}, nil
		}},
	}, nil
}

func mailturnServer(name, host, binary string) turnServer {
	return turnServer{name: name, host: host, command: func(dir string, addr netip.AddrPort) ([]string, error) {
		file := filepath.Join(dir, name+".conf")
		return []string{binary, "run", "--state-dir", filepath.Join(dir, name+".state"), "--config", file},
			os.WriteFile(file, fmt.Appendf(nil, mailturnTURN, addr, turnRealm, turnSecret, addr.Addr(), addr.Addr()), 0o600)
	}}
}

const mailturnTURN = `
hostname = "localhost"
endpoint "turn" "turn" {
  listen        = ["udp://%v"]
  realm         = %q
  secret        = %q
  relay_ip      = "%v"
  relay_bind    = "%v"
  user_quota    = 0
  total_quota   = 0
  max_pps       = 0
  user_pps      = 0
  drain_timeout = "0s"
  peers {
    allow = ["127.0.0.0/8"]
  }
}
`

// start starts the server and waits until it answers.
func (k turnServer) start(ctx context.Context, dir string) (*runningTurn, error) {
	port, err := freeUDPPort(k.host)
	if err != nil {
		return nil, err
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr(k.host), port)
	command, err := k.command(dir, addr)
	if err != nil {
		return nil, err
	}
	if k.cpu != nil {
		command = append([]string{"taskset", "-c", fmt.Sprint(*k.cpu)}, command...)
	}
	s := &runningTurn{name: k.name, addr: addr, logFile: filepath.Join(dir, k.name+".log")}
	if _, err := exec.LookPath(command[0]); err != nil {
		return nil, err
	}
	if s.child, err = startChild(s.logFile, command[0], command[1:]...); err != nil {
		return nil, err
	}
	s.process = &server{name: k.name, group: s.child.cmd.Process.Pid}
	if err := awaitTURN(ctx, addr, s.child.exited); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", k.name, err, s.log()), s.stop())
	}
	return s, nil
}

func (s *runningTurn) stop() error { return s.child.stop() }

func (s *runningTurn) log() string {
	text, _ := os.ReadFile(s.logFile)
	return end(string(text))
}

// awaitTURN waits until a Binding request is answered.
func awaitTURN(ctx context.Context, addr netip.AddrPort, exited <-chan error) error {
	conn, err := net.Dial("udp4", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	var b stun.Builder
	b.Start(stun.MethodBinding, stun.ClassRequest, stun.TransactionID{1})
	answer := make([]byte, 1500)
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline); {
		select {
		case err := <-exited:
			return fmt.Errorf("ended at once: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		// An error is ICMP's word that nobody listens yet.
		conn.Write(b.Bytes())
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := conn.Read(answer); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("no answer in %v", startLimit)
}

// freeUDPPort returns one that is not among the relay's.
func freeUDPPort(host string) (uint16, error) {
	for {
		conn, err := net.ListenPacket("udp4", net.JoinHostPort(host, "0"))
		if err != nil {
			return 0, err
		}
		port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		conn.Close()
		if port < relay.DefaultMinPort {
			return port, nil
		}
	}
}

// memory is what a server's processes hold, in bytes.
func memory(s *server) (int, error) {
	pids, err := processes(s.group)
	if err != nil {
		return 0, err
	}
	return resident(pids)
}

// pionMain is the command "bench pion ADDRESS": pion/turn as package pionturn runs it, with no limits.
func pionMain(args []string) error {
	if len(args) != 1 {
		return errors.New("want the address to serve on")
	}
	server, _, err := servePion(args[0])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return server.Close()
}

// servePion starts the server at an address, whose port may be 0, and returns the one that it has got.
func servePion(listen string) (*pionturn.Server, netip.AddrPort, error) {
	conn, err := net.ListenPacket("udp4", listen)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	relays, err := relay.New(relay.Config{
		Addresses: []relay.Address{{Bind: addr.Addr(), Advertise: addr.Addr()}},
		Peers:     peer.New(peer.Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}),
	})
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	server, err := pionturn.New(pionturn.Config{
		Realm: turnRealm, Relay: relays,
		Authenticator: credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte(turnSecret))}},
	})
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	go server.ServePacket(conn) // ends with Close
	return server, addr, nil
}
