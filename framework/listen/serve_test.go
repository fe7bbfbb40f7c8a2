package listen

import (
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A brokenListener fails a few times, as with too many open files, before it returns a connection.
type brokenListener struct {
	net.Listener
	errs  []error
	tries atomic.Int32
	conns chan net.Conn
}

func (l *brokenListener) Accept() (net.Conn, error) {
	i := int(l.tries.Add(1)) - 1
	if i < len(l.errs) {
		return nil, &net.OpError{Op: "accept", Err: l.errs[i]}
	}
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *brokenListener) Addr() net.Addr { return &net.UnixAddr{} }

func TestServeSurvivesErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &brokenListener{conns: make(chan net.Conn), errs: []error{syscall.ECONNABORTED}}
		for range 12 {
			l.errs = append(l.errs, syscall.EMFILE)
		}
		served, ended := make(chan net.Conn), make(chan struct{})
		begin := time.Now()
		go func() {
			defer close(ended)
			Serve(l, slog.New(slog.DiscardHandler), func(conn net.Conn) { served <- conn })
		}()
		conn, _ := net.Pipe()
		l.conns <- conn
		<-served
		// Neither as fast as possible, nor slower than once a second.
		if took := time.Since(begin); took < 2*time.Second || took > 13*time.Second {
			t.Errorf("13 errors took %v", took)
		}
		close(l.conns)
		<-ended
	})
}
