package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mailturn/mailturn/framework/listen"
)

// A takeover is an address at which mailturn will listen, and Dovecot's sockets for the same clients.
type takeover struct {
	listen listen.Addr
	from   []Socket
}

// A Descriptor is an open file of a process.
type Descriptor struct{ PID, FD int }

// The maximum time for the service manager to store sockets, and for Dovecot to close them.
const (
	storePatience   = 2 * time.Second
	releasePatience = 10 * time.Second
	releaseInterval = 2 * time.Millisecond // nothing may be listening on the port in the meantime
)

// changeOver returns an action that makes mailturn take over Dovecot's ports. mailturn gets Dovecot's sockets, so that no
// connection is refused. If that is not possible, new connections are refused for about a tenth of a second. An interrupt does not
// stop it halfway. Dovecot 2.3 keeps existing connections, and 2.4 ends them with BYE.
func changeOver(takeovers []takeover, greets []Greeting, serverName string) Action {
	return Action{Text: "restart mailturn with Dovecot's sockets, then reload Dovecot, which closes them", do: func(ctx context.Context, m *Machine) error {
		whole := context.WithoutCancel(ctx)
		given, err := m.giveSockets(whole, takeovers)
		if err != nil {
			return err
		}
		if given {
			err = m.command(whole, []string{"systemctl", "restart", unitName})
		}
		if err == nil {
			err = m.command(whole, []string{"systemctl", "reload", "dovecot.service"})
		}
		for _, t := range takeovers {
			if err == nil {
				err = m.awaitRelease(t.from)
			}
		}
		if err == nil && !given {
			err = m.command(whole, []string{"systemctl", "kill", "--kill-who=main", "--signal=HUP", unitName})
		}
		for _, g := range greets {
			if err == nil {
				err = awaitGreeting(g, serverName).do(ctx, m)
			}
		}
		return err
	}}
}

// giveSockets makes the service manager store duplicates of Dovecot's sockets for mailturn, which gets them at its next start. It
// reports whether they are stored. If they are not, and there is no error, nothing has changed.
func (m *Machine) giveSockets(ctx context.Context, takeovers []takeover) (given bool, err error) {
	pid, _ := strconv.Atoi(m.state(ctx, unitName, "MainPID"))
	if pid == 0 {
		return false, errors.New("mailturn does not run")
	}
	sockets, n := make(map[string][]Descriptor), 0
	for _, t := range takeovers {
		for _, s := range t.from {
			held := m.holders(s)
			i := slices.IndexFunc(held, func(d Descriptor) bool { return d.PID == s.PID })
			if i < 0 {
				return false, nil
			}
			sockets[t.listen.HostPort()] = append(sockets[t.listen.HostPort()], held[i])
			n++
		}
	}
	before := m.stored(ctx)
	if err := m.Store(pid, sockets); err != nil {
		return false, nil
	}
	reached := errors.New("not stored")
	retry(ctx, storePatience, func() error {
		if m.stored(ctx) == before+n {
			reached = nil
		}
		return reached
	})
	switch {
	case reached == nil:
		return true, nil
	case m.stored(ctx) == before:
		return false, nil
	}
	return false, errors.New("the service manager stores only some of Dovecot's sockets for mailturn")
}

// stored returns how many descriptors the service manager stores for mailturn.
func (m *Machine) stored(ctx context.Context) int {
	n, _ := strconv.Atoi(m.state(ctx, unitName, "NFileDescriptorStore"))
	return n
}

// awaitRelease waits until Dovecot has closed its sockets.
func (m *Machine) awaitRelease(sockets []Socket) error {
	for _, s := range sockets {
		for deadline := m.Now().Add(releasePatience); m.dovecotHas(s); time.Sleep(releaseInterval) {
			if m.Now().After(deadline) {
				return fmt.Errorf("Dovecot has not left %v within %v", s.Addr, releasePatience)
			}
		}
	}
	return nil
}

// dovecotHas reports whether one of Dovecot's processes still has a socket.
func (m *Machine) dovecotHas(s Socket) bool {
	return slices.ContainsFunc(m.holders(s), func(d Descriptor) bool {
		return Socket{Program: m.program(d.PID)}.isDovecots()
	})
}
