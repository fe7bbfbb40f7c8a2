//go:build amd64 || arm64

package turnsrv

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/kernel"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/limit"
)

// defaultKernelChannels is how many channels the kernel relays at the same time. Each takes about 450 bytes of its memory.
const defaultKernelChannels = 1 << 15

// kernelPath is the program in the kernel, and the goroutine that follows the changes of the network. It implements session.Kernel.
type kernelPath struct {
	path     *kernel.Path
	logger   *slog.Logger
	problems limit.Sampler
	stop     chan struct{}
	follow   sync.WaitGroup
}

// newKernelPath loads the program with room for the given number of channels, or for the default number if that is zero.
func newKernelPath(channels int, logger *slog.Logger) (*kernelPath, error) {
	path, err := kernel.Load(cmp.Or(channels, defaultKernelChannels), logger)
	if err != nil {
		return nil, err
	}
	k := &kernelPath{path: path, logger: logger, stop: make(chan struct{})}
	k.follow.Go(func() { path.Follow(k.stop) })
	return k, nil
}

func hasNAT() (bool, error) { return kernel.HasNAT() }

// cleanKernelPath removes the filters of all interfaces.
func cleanKernelPath() error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range interfaces {
		errs = append(errs, kernel.RemoveFilters(i.Index))
	}
	return errors.Join(errs...)
}

// Relay implements session.Kernel.
func (k *kernelPath) Relay(b kernel.Binding, now time.Time) (session.KernelChannel, error) {
	c, err := k.path.Relay(b, now)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, kernel.ErrFamily), errors.Is(err, kernel.ErrNotRouted), errors.Is(err, kernel.ErrTaken),
		errors.Is(err, kernel.ErrPlace):
		// Such channels are always left to the sockets.
	default:
		if skipped, due := k.problems.Next(err.Error(), now); due {
			k.logger.Warn("the kernel cannot relay a channel, the sockets do", "err", err, "skipped", skipped)
		}
	}
	return nil, err // not a nil *kernel.Channel
}

// passedUp sets the packets that the program has passed up, by reason.
func (k *kernelPath) passedUp(counts map[string]uint64) {
	passed, err := k.path.Passed()
	if err != nil {
		return
	}
	for reason, n := range passed {
		counts[kernel.Reason(reason).String()] = n
	}
}

// succeed prepares for replacing the process before, which still relays.
func (k *kernelPath) succeed() { k.path.AttachBeside() }

// close removes the program from the kernel. It is called after all sessions have ended.
func (k *kernelPath) close() error {
	close(k.stop)
	k.follow.Wait()
	return k.path.Close()
}
