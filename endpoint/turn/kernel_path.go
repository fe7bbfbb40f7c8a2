package turn

import (
	"context"
	"errors"
	"time"

	"github.com/mailturn/mailturn/turnsrv"
)

// KernelPath is the value of kernel_path.
type KernelPath turnsrv.KernelPath

// UnmarshalText accepts one of three words.
func (p *KernelPath) UnmarshalText(text []byte) error {
	switch string(text) {
	case "off":
		*p = KernelPath(turnsrv.KernelPathOff)
	case "auto":
		*p = KernelPath(turnsrv.KernelPathAuto)
	case "on":
		*p = KernelPath(turnsrv.KernelPathOn)
	default:
		return errors.New(`want "auto", "on" or "off"`)
	}
	return nil
}

// withdrawTimeout bounds how long a change waits for the workers. They take microseconds unless the machine is overloaded.
const withdrawTimeout = 5 * time.Second

// withdrawFromKernel makes the sockets relay what the kernel relays, after what is allowed has changed.
func (e *Endpoint) withdrawFromKernel() {
	server := e.server.Load()
	if server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), withdrawTimeout)
	defer cancel()
	if err := server.WithdrawFromKernel(ctx); err != nil {
		e.logger.Warn("the kernel still relays some channels as before the change", "err", err)
	}
}

// KernelPath reports whether the kernel relays packets, or why not if it should: see turnsrv.Server. It is safe for concurrent use.
func (e *Endpoint) KernelPath() (used bool, problem error) {
	if server := e.server.Load(); server != nil {
		return server.KernelPath()
	}
	return false, nil
}
