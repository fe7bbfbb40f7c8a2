//go:build !linux

package bench

import (
	"context"
	"errors"
	"time"
)

// generator is of Linux's system calls.
type generator struct{}

func newGenerator(workload) (*generator, error) { return nil, errors.ErrUnsupported }

func (*generator) run(context.Context, time.Duration) (relayed, error) {
	return relayed{}, errors.ErrUnsupported
}
func (*generator) enter([]call)       {}
func (*generator) clientPort() uint16 { return 0 }
func (*generator) peerPort() uint16   { return 0 }
func (*generator) close()             {}

func reuseAddr(uintptr) {}

func cpus() (first, last int, err error) { return 0, 0, errors.ErrUnsupported }

func stayOn(int) (leave func(), err error) { return nil, errors.ErrUnsupported }
