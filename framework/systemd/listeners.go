package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/mailturn/mailturn/framework/handoff"
)

// firstDescriptor is the descriptor of the first socket that the manager passes, SD_LISTEN_FDS_START.
const firstDescriptor = 3

// maxName is the maximum length of a descriptor's name, FDNAME_MAX.
const maxName = 255

// Listeners opens listening TCP sockets that outlive the process. The manager keeps a duplicate of each in its descriptor store
// (FileDescriptorStoreMax= of the unit), and passes it to the next process. Meanwhile the port is open: connections wait in the
// socket's queue until that process accepts them, and none is refused.
//
// Without a manager, or with one that keeps no descriptors, the sockets are ordinary ones. So are those of a nil *Listeners.
// The methods are safe for concurrent use.
type Listeners struct {
	manager Manager
	logger  *slog.Logger
	sockets *handoff.Sockets

	mu        sync.Mutex
	inherited map[string][]*os.File // by the name under which they were stored; from the process before, and not taken yet
}

// Inherit takes the sockets that the previous process has stored with the manager. It must be called only once, because it removes
// the variables that name them from the environment. The sockets are also among those that this process has been passed, and can pass
// on, in sockets.
func Inherit(m Manager, sockets *handoff.Sockets, logger *slog.Logger) *Listeners {
	l := &Listeners{manager: m, sockets: sockets, logger: logger, inherited: make(map[string][]*os.File)}
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if n, err := strconv.Atoi(count); err == nil && pid == strconv.Itoa(os.Getpid()) {
		l.take(n, strings.Split(names, ":"))
	}
	return l
}

// take takes n descriptors with their names.
func (l *Listeners) take(n int, names []string) {
	for i := range n {
		fd := firstDescriptor + i
		syscall.CloseOnExec(fd)
		if i >= len(names) || !strings.HasPrefix(names[i], namePrefix) {
			l.logger.Warn("unknown descriptor from the service manager closed", "descriptor", fd)
			syscall.Close(fd)
			continue
		}
		l.inherited[names[i]] = append(l.inherited[names[i]], os.NewFile(uintptr(fd), names[i]))
	}
}

// namePrefix is the prefix of the names of our sockets in the store.
const namePrefix = "listen-"

// nameOf returns the name of the socket for HOST:PORT in the store, which must not contain a colon, or "" if the socket cannot be
// stored.
func nameOf(hostPort string) string {
	name := namePrefix + strings.ReplaceAll(hostPort, ":", "_")
	invalid := strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' })
	if _, port, err := net.SplitHostPort(hostPort); err != nil || port == "0" || len(name) > maxName || invalid {
		return ""
	}
	return name
}

// Listen returns the socket that the previous process has bound to HOST:PORT, or else binds one and stores it with the manager.
// Close closes it in this process only: see Forget.
func (l *Listeners) Listen(ctx context.Context, hostPort string) (net.Listener, error) {
	if l == nil {
		return new(net.ListenConfig).Listen(ctx, "tcp", hostPort)
	}
	name := nameOf(hostPort)
	if listener := l.inherit(name, hostPort); listener != nil {
		return listener, nil
	}
	taken, err := l.sockets.TakeTCP(hostPort) // the manager has these already
	if err != nil || len(taken) > 0 {
		return join(taken), err
	}
	listener, err := l.sockets.ListenTCP(ctx, hostPort)
	if err != nil || name == "" {
		return listener, err
	}
	if err := l.manager.notifyOf(listener.(*net.TCPListener), "FDSTORE=1", "FDNAME="+name); err != nil {
		l.logger.Warn("leaving a socket with the service manager", "listen", hostPort, "err", err)
	}
	return listener, nil
}

// inherit returns the socket of the previous process, or a listener for several: a program whose port this one takes over may have
// one socket for each family. It returns nil if there is none.
func (l *Listeners) inherit(name, hostPort string) net.Listener {
	l.mu.Lock()
	files := l.inherited[name]
	delete(l.inherited, name)
	l.mu.Unlock()
	var listeners []net.Listener
	var errs []error
	for _, file := range files {
		listener, err := listenerOf(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		listeners = append(listeners, listener)
	}
	if err := errors.Join(errs...); err != nil {
		l.logger.Warn("socket from the service manager not used", "descriptor", name, "err", err)
		for _, listener := range listeners {
			listener.Close()
		}
		l.remove(name) // all of that name
		return nil
	}
	for _, listener := range listeners {
		l.sockets.OfferTCP(hostPort, listener.(*net.TCPListener))
	}
	return join(listeners)
}

// listenerOf returns the listener that a descriptor is, and closes the descriptor.
func listenerOf(file *os.File) (net.Listener, error) {
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	if _, ok := listener.(*net.TCPListener); !ok {
		listener.Close()
		return nil, errors.New("it is not a TCP socket")
	}
	return listener, nil
}

// Forget makes the manager close its duplicate of the socket for HOST:PORT, so that the port is closed when the socket is closed
// here.
func (l *Listeners) Forget(hostPort string) {
	if l == nil {
		return
	}
	if name := nameOf(hostPort); name != "" {
		l.remove(name)
	}
}

// ForgetUnused closes the sockets of the previous process that this one does not use. It must be called after all listeners are
// open.
func (l *Listeners) ForgetUnused() {
	if l == nil {
		return
	}
	l.mu.Lock()
	unused := l.inherited
	l.inherited = nil
	l.mu.Unlock()
	for name, files := range unused {
		l.remove(name)
		for _, file := range files {
			file.Close()
		}
	}
}

func (l *Listeners) remove(name string) {
	if err := l.manager.Notify("FDSTOREREMOVE=1", "FDNAME="+name); err != nil {
		l.logger.Warn("taking a socket back from the service manager", "descriptor", name, "err", err)
	}
}
