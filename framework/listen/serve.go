package listen

import (
	"errors"
	"log/slog"
	"net"
	"time"
)

const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// Serve calls handle for each connection, in the goroutine of the caller, until the listener is closed. It retries after other
// errors, which are temporary: too many open files (EMFILE), or a connection reset before it was accepted (ECONNABORTED).
func Serve(l net.Listener, logger *slog.Logger, handle func(net.Conn)) {
	var delay time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			handle(conn)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if delay = min(max(2*delay, minAcceptDelay), maxAcceptDelay); delay == minAcceptDelay {
				logger.Warn("accepting a connection", "listen", l.Addr().String(), "err", err)
			}
			time.Sleep(delay)
		}
	}
}
