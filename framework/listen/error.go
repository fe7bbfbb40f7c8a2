package listen

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/hashicorp/hcl/v2"
)

// Error returns err, the error of binding addr, with the place of addr in the configuration, unless that is the zero Range, and
// with advice.
func Error(addr Addr, place hcl.Range, err error) error {
	at := ""
	if place.Filename != "" {
		at = fmt.Sprintf(" (%s:%d)", place.Filename, place.Start.Line)
	}
	if opErr, ok := errors.AsType[*net.OpError](err); ok {
		err = opErr.Err // without the address, which is there already
	}
	return fmt.Errorf("listen on %v%s: %w%s", addr, at, err, advice(err))
}

func advice(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return ": another program uses this port: stop it, or choose another port"
	case errors.Is(err, syscall.EACCES):
		return ": ports below 1024 require root or CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return ": this machine does not have the address: use one that it has, or 0.0.0.0 for all"
	default:
		return ""
	}
}
