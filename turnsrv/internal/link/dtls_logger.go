package link

import (
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// dtlsLogger logs the errors of pion/dtls at debug level, because any sender of packets can cause most of them.
type dtlsLogger struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (l dtlsLogger) NewLogger(string) logging.LeveledLogger { return l }

// Trace and the others implement logging.LeveledLogger.
func (dtlsLogger) Trace(string)          {}
func (dtlsLogger) Tracef(string, ...any) {}
func (dtlsLogger) Debug(string)          {}
func (dtlsLogger) Debugf(string, ...any) {}
func (dtlsLogger) Info(string)           {}
func (dtlsLogger) Infof(string, ...any)  {}

// Warn and Error log at debug level, for troubleshooting.
func (l dtlsLogger) Warn(m string) { l.log.Debug("DTLS warning", "err", m) }
func (l dtlsLogger) Warnf(m string, a ...any) {
	l.log.Debug("DTLS warning", "err", fmt.Sprintf(m, a...))
}
func (l dtlsLogger) Error(m string) { l.log.Debug("DTLS error", "err", m) }
func (l dtlsLogger) Errorf(m string, a ...any) {
	l.log.Debug("DTLS error", "err", fmt.Sprintf(m, a...))
}
