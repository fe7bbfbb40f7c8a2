package turn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

const startLimit = 20 * time.Second

// running is a started server.
type running struct {
	name    string
	at      address
	group   int // of processes
	child   *process.Child
	kind    kind
	logFile string
}

// start starts a server and waits until it answers.
func (b *bench) start(ctx context.Context, k kind) (*running, error) {
	s := &running{name: k.name, kind: k, at: address{host: k.host, dtls: k.dtls}, logFile: filepath.Join(b.dir, strings.ReplaceAll(k.name, " ", "-")+".log")}
	s.at.port = b.network.freePort(k.host, 0)
	s.at.tls = b.network.freePort(k.host, s.at.port)
	command, err := k.command(b.dir, s.at)
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		return nil, err
	}
	if k.cpu != nil {
		command = append([]string{"taskset", "-c", fmt.Sprint(*k.cpu)}, command...)
	}
	command = append(b.network.run[:len(b.network.run):len(b.network.run)], command...)
	if s.child, err = process.Start(s.logFile, command[0], command[1:]...); err != nil {
		return nil, err
	}
	s.group = s.child.Group()
	if k.forwards {
		return s, nil // which answers nothing yet
	}
	if err := awaitAnswer(ctx, s.at.plain(), s.child.Exited()); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", k.name, err, s.log()), s.child.Stop())
	}
	return s, nil
}

func (s *running) log() string {
	text, _ := os.ReadFile(s.logFile)
	return process.End(string(text))
}

// awaitAnswer waits until a Binding request is answered.
func awaitAnswer(ctx context.Context, addr netip.AddrPort, exited <-chan error) error {
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
		// An error means that nothing listens yet (ICMP).
		conn.Write(b.Bytes())
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := conn.Read(answer); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("no answer in %v", startLimit)
}

// The ports of servers are below those that the system and relays choose.
const minServerPort, maxServerPort = 10000, 30000

// freePort returns a port other than one that is taken, for UDP and TCP.
func (n network) freePort(host netip.Addr, taken uint16) uint16 {
	for {
		port := minServerPort + rand.N[uint16](maxServerPort-minServerPort)
		if port == taken {
			continue
		}
		if len(n.run) > 0 {
			return port // it is free
		}
		addr := netip.AddrPortFrom(host, port).String()
		packets, err := net.ListenPacket("udp4", addr)
		if err != nil {
			continue
		}
		packets.Close()
		listener, err := net.Listen("tcp4", addr)
		if err != nil {
			continue
		}
		listener.Close()
		return port
	}
}
