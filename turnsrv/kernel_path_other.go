//go:build !linux || !(amd64 || arm64)

package turnsrv

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/kernel"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
)

// kernelPath is not available on this system.
type kernelPath struct{}

func newKernelPath(int, *slog.Logger) (*kernelPath, error) {
	return nil, fmt.Errorf("not on %s, %s: %w", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
}

func hasNAT() (bool, error) { return false, errors.ErrUnsupported }

// cleanKernelPath does nothing: there is nothing to leave behind.
func cleanKernelPath() error { return nil }

// Relay implements session.Kernel.
func (*kernelPath) Relay(kernel.Binding, time.Time) (session.KernelChannel, error) {
	return nil, errors.ErrUnsupported
}

func (*kernelPath) passedUp(map[string]uint64) {}

func (*kernelPath) succeed() {}

func (*kernelPath) close() error { return nil }
