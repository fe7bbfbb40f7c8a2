package turnsrv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// KernelPath determines whether the kernel relays the packets of bound channels: see Config.KernelPath.
type KernelPath uint8

// Values of KernelPath.
const (
	KernelPathOff  KernelPath = iota // sockets relay all packets
	KernelPathAuto                   // if it is possible; otherwise, one line in the log says why it is not
	KernelPathOn                     // New returns an error if it is not possible
)

// KernelCounters count what the kernel has relayed, and what it has passed up to the sockets.
type KernelCounters struct {
	Channels int           // live: channel bindings that the kernel relays
	ToPeer   event.Traffic // part of Counters.ToPeer
	ToClient event.Traffic // part of Counters.ToClient
	// PassedUp contains packets of these channels that went to the sockets, by reason. It is empty if the path is not in use.
	PassedUp map[string]uint64
}

// KernelPath reports whether the kernel relays packets. If it does not although Config.KernelPath asks for it, problem says why.
func (s *Server) KernelPath() (used bool, problem error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kernel != nil, s.kernelProblem
}

// TryKernelPath loads the program into the kernel, checks it, and removes it. It returns why that is not possible: fs.ErrPermission
// without the capabilities, errors.ErrUnsupported on other systems than Linux.
func TryKernelPath() error {
	path, err := newKernelPath(0, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return path.close()
}

// KernelPathNAT reports whether netfilter on this machine has rules of NAT. Sockets relay the calls that they rewrite. It cannot tell
// whether they concern any. It requires CAP_NET_ADMIN.
func KernelPathNAT() (bool, error) { return hasNAT() }

// CleanKernelPath removes the filters that a process has left on the interfaces of this network namespace, on systems on which they
// outlive it. It must not be called while a server uses them. It removes no filter of other programs.
func CleanKernelPath() error { return cleanKernelPath() }

// startKernelPath loads the program into the kernel if the configuration asks for it, and adapts the configuration of the sockets
// and of the protocol to it.
func (s *Server) startKernelPath(protocol *session.Config) error {
	if s.config.KernelPath == KernelPathOff {
		return nil
	}
	path, err := newKernelPath(s.config.kernelChannels, s.config.Logger)
	switch {
	case err != nil && s.config.KernelPath == KernelPathOn:
		return fmt.Errorf("kernel path: %w", err)
	case err != nil:
		level := slog.LevelWarn
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
			level = slog.LevelInfo // most services run without the privilege, and other systems have no such path
		}
		s.config.Logger.Log(context.Background(), level, "kernel path is not in use", "err", err)
		s.kernelProblem = err
		return nil
	}
	message := "kernel path is ready"
	if nat, err := hasNAT(); err == nil && nat {
		message = "kernel path is ready, except for calls whose packets the NAT rules of this host rewrite"
	}
	s.config.Logger.Info(message)
	if s.config.Successor {
		path.succeed()
	}
	s.kernel, protocol.Kernel = path, path
	// The system would join packets for the sockets before the program sees them, and it passes such packets up.
	s.config.NoCoalesce = true
	return nil
}

// kernelCounters returns the counters of the kernel path.
func (s *Server) kernelCounters() KernelCounters {
	live := s.shared.Counters
	c := KernelCounters{
		Channels: int(live.KernelChannels.Load()), ToPeer: live.KernelToPeer.Snapshot(), ToClient: live.KernelToClient.Snapshot(),
		PassedUp: make(map[string]uint64),
	}
	if s.kernel != nil {
		s.kernel.passedUp(c.PassedUp)
	}
	return c
}
