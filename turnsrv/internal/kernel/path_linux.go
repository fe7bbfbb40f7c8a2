//go:build amd64 || arm64

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Path is the program in the kernel, with its entries. Safe for concurrent use.
type Path struct {
	objects objectObjects
	control *objectControl // shared with the program
	entries entries

	changes *changes
	routes  routes
	logger  *slog.Logger

	mu       sync.Mutex            // guards what follows
	hooks    map[int]hook          // by index of the interface
	place    *place                // of filters, or nil if there has been none
	channels map[*Channel]struct{} // that have not ended
}

// Load loads the program with room for the given number of channels, and checks that it relays a few packets correctly. It is not
// attached to an interface yet. logger is told of the interfaces that the program is attached to later.
//
// Load requires CAP_BPF and CAP_NET_ADMIN. The error is fs.ErrPermission without them.
func Load(channels int, logger *slog.Logger) (*Path, error) {
	if lacks := lacking(); len(lacks) > 0 {
		return nil, fmt.Errorf("%w: this process lacks %s", fs.ErrPermission, strings.Join(lacks, " and "))
	}
	spec, err := loadObject()
	if err != nil {
		return nil, err
	}
	most := 2 * min(max(channels, 1), maxChannels)
	lines := linesFor(uint32(most))
	spec.Maps[objectMapLines].MaxEntries = lines
	spec.Maps[objectMapEntries].MaxEntries, spec.Maps[objectMapWides].MaxEntries = lines*ways, lines*ways
	p := &Path{logger: logger, hooks: make(map[int]hook), channels: make(map[*Channel]struct{})}
	p.entries.most, p.entries.taken = most, make([]bool, lines*ways)
	if err := spec.LoadAndAssign(&p.objects, nil); err != nil {
		return nil, loadError(err)
	}
	err = p.share()
	if err == nil {
		p.Beat()
		err = p.check(time.Now())
	}
	if err == nil {
		p.changes, err = watchChanges()
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// share maps the memory that both the program and the process write.
func (p *Path) share() error {
	controls, err := share[objectControl](p.objects.Controls)
	if err != nil {
		return err
	}
	p.control = &controls[0]
	all, err := share[objectEntry](p.objects.Entries)
	if err != nil {
		return err
	}
	p.entries.all = all
	if p.entries.wides, err = share[objectWide](p.objects.Wides); err != nil {
		return err
	}
	p.entries.index.control = p.control
	if p.entries.index.lines, err = share[objectLine](p.objects.Lines); err != nil {
		return err
	}
	p.entries.index.begin()
	return nil
}

// share returns the values of an array in the kernel as memory of this process.
func share[T any](m *ebpf.Map) ([]T, error) {
	page := unix.Getpagesize()
	length := (int(m.ValueSize())*int(m.MaxEntries()) + page - 1) / page * page
	memory, err := unix.Mmap(m.FD(), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the memory of %v: %w", m, err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), m.MaxEntries()), nil
}

// unshare undoes share.
func unshare[T any](values []T, m *ebpf.Map) error {
	if values == nil {
		return nil
	}
	page := unix.Getpagesize()
	length := (int(m.ValueSize())*int(m.MaxEntries()) + page - 1) / page * page
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(values)), uintptr(length))
}

// Beat reports to the program that the process is alive. Five seconds after the last call, the program passes everything up.
func (p *Path) Beat() { atomic.StoreUint64(&p.control.Alive, monotonic(0)) }

// alive returns when the process last reported, on the clock of the program.
func (p *Path) alive() uint64 { return atomic.LoadUint64(&p.control.Alive) }

// monotonic returns the time after the given duration on the clock of the program, in nanoseconds.
func monotonic(after time.Duration) uint64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	return uint64(max(now.Nano()+int64(after), 0))
}

// Passed returns how many packets of entries the program has passed up, by reason.
func (p *Path) Passed() ([NumReasons]uint64, error) {
	var counts [NumReasons]uint64
	var each []uint64 // by processor
	for r := range NumReasons {
		if err := p.objects.Passed.Lookup(objectReason(r), &each); err != nil {
			return counts, err
		}
		for _, n := range each {
			counts[r] += n
		}
	}
	return counts, nil
}

// Close removes the program from all interfaces and from the kernel. Nothing may use p or its channels afterwards.
func (p *Path) Close() error {
	var errs []error
	p.mu.Lock()
	defer p.mu.Unlock()
	for index, h := range p.hooks {
		errs = append(errs, h.remove())
		delete(p.hooks, index)
	}
	if p.place != nil {
		errs = append(errs, p.place.release())
	}
	if p.control != nil {
		errs = append(errs, unshare(unsafe.Slice(p.control, 1), p.objects.Controls))
	}
	if p.changes != nil {
		errs = append(errs, p.changes.close())
	}
	errs = append(errs, unshare(p.entries.all, p.objects.Entries), unshare(p.entries.wides, p.objects.Wides),
		unshare(p.entries.index.lines, p.objects.Lines), p.objects.Close())
	return errors.Join(errs...)
}
