//go:build amd64 || arm64

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// hook is a place at which the program is attached to an interface.
type hook interface {
	remove() error
	String() string
}

// tcxHook is a link of Linux 6.6 and later. It ends with the process, because it is not pinned.
type tcxHook struct{ link.Link }

func (h tcxHook) remove() error { return h.Close() }
func (tcxHook) String() string  { return "tcx" }

// clsactHook is a filter, which outlives the process.
type clsactHook struct {
	index  int
	handle uint32
}

func (h clsactHook) remove() error { return removeFilter(h.index, h.handle) }
func (clsactHook) String() string  { return "clsact" }

// ErrNotEthernet is returned for an interface whose packets have no Ethernet header, such as loopback or a tunnel.
var ErrNotEthernet = errors.New("not an Ethernet interface")

// Attach attaches the program to an interface, and returns the name of the hook, tcx or clsact. It does nothing if the program is
// attached already. Programs of others on the same hook keep working: those of tcx run before this one. The error is ErrNotEthernet,
// or one of the system.
func (p *Path) Attach(index int) (string, error) {
	name, h, err := p.attachOnce(index)
	if err != nil {
		return "", err
	}
	if name != "" {
		p.logger.Info("kernel path is attached", "interface", name, "hook", h.String())
	}
	return h.String(), nil
}

// attachOnce is Attach. It returns the name of the interface unless the program is attached already.
func (p *Path) attachOnce(index int) (name string, h hook, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h = p.hooks[index]; h != nil {
		return "", h, nil
	}
	l, err := linkOf(index)
	if err != nil {
		return "", nil, err
	}
	if !l.ethernet {
		return "", nil, fmt.Errorf("interface %s: %w", l.name, ErrNotEthernet)
	}
	if h, err = p.attach(index); err != nil {
		return "", nil, err
	}
	p.hooks[index] = h
	return l.name, h, nil
}

func (p *Path) attach(index int) (hook, error) {
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: p.objects.MailturnRelay, Attach: ebpf.AttachTCXIngress})
	if err == nil {
		return tcxHook{l}, nil
	}
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return nil, fmt.Errorf("attach to interface %d: %w", index, err)
	}
	return p.attachFilter(index)
}

// attachFilter attaches the program by clsact. The caller holds the lock.
func (p *Path) attachFilter(index int) (hook, error) {
	if p.place == nil {
		place, err := claim()
		if err != nil {
			return nil, err
		}
		p.place = place
	}
	if err := addFilter(index, p.place, p.objects.MailturnRelay.FD()); err != nil {
		return nil, err
	}
	return clsactHook{index, p.place.handle}, nil
}

// AttachBeside attaches the program to the interfaces to which a program is attached by tcx: where those of the process before are, which
// this one succeeds. Attaching takes the kernel tens of milliseconds, for which calls should not wait. It does nothing on systems
// without tcx, and leaves interfaces on which it fails to Relay.
func (p *Path) AttachBeside() {
	interfaces, err := net.Interfaces()
	if err != nil {
		return
	}
	for _, i := range interfaces {
		attached, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: ebpf.AttachTCXIngress})
		if err == nil && len(attached.Programs) > 0 {
			_, _ = p.Attach(i.Index)
		}
	}
}

// Detach removes the program from an interface, which may have disappeared.
func (p *Path) Detach(index int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hooks[index]
	if h == nil {
		return nil
	}
	delete(p.hooks, index)
	if err := h.remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
