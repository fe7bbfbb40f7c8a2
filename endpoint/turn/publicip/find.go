package publicip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// timeout bounds asking one source.
const timeout = 5 * time.Second

// Finder finds the public addresses of this machine. It is owned by one goroutine.
type Finder struct {
	// Sources are asked in this order. The first good address of each family counts.
	Sources []Source
	// Hostname is the name that DNS looks up by default.
	Hostname string
	// Interfaces returns the addresses for Interface.
	Interfaces func() ([]netip.Addr, error)
	// Lookup asks the DNS for the addresses of a name.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// Problem returns why an address is not a good one, or nothing.
	Problem func(netip.Addr) string

	latest map[Source][]netip.Addr // the last answer of each source
	errs   map[Source]error        // of the sources that gave none when they were last asked
}

// Found is an address.
type Found struct {
	Addr   netip.Addr
	Source Source
	// Problem is why it is not a good one, in a few words. There was no better one.
	Problem string
}

// Find returns one address of each family for which a source has any. local has it ask only the sources that are this machine itself,
// and take the last answers of the others. err says which sources gave no answer when they were last asked; for these, too, their last
// answer counts.
func (f *Finder) Find(ctx context.Context, local bool) (found []Found, err error) {
	if f.latest == nil {
		f.latest, f.errs = make(map[Source][]netip.Addr), make(map[Source]error)
	}
	var best [2]*Found // IPv4, IPv6
	var errs []error
	for _, source := range f.Sources {
		if !local || source.Local() {
			addrs, err := f.ask(ctx, source)
			f.errs[source] = err
			if err == nil {
				f.latest[source] = addrs
			}
		}
		if err := f.errs[source]; err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", source, err))
		}
		for _, addr := range f.latest[source] {
			at := 0
			if addr.Is6() {
				at = 1
			}
			problem := f.Problem(addr)
			if best[at] == nil || best[at].Problem != "" && problem == "" {
				best[at] = &Found{addr, source, problem}
			}
		}
	}
	for _, b := range best {
		if b != nil {
			found = append(found, *b)
		}
	}
	return found, errors.Join(errs...)
}

// ask returns the addresses that a source knows, of which each can be used as it is. A source without any is an error.
func (f *Finder) ask(ctx context.Context, source Source) (addrs []netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch source.Kind {
	case Interface:
		addrs, err = f.Interfaces()
	case DNS:
		name := source.Host
		if name == "" {
			name = f.Hostname
		}
		addrs, err = f.Lookup(ctx, name)
	case STUN:
		addrs, err = askSTUN(ctx, source.Host, source.Port)
	case Metadata:
		addrs, err = askMetadata(ctx, metadataServer)
	}
	if err != nil {
		return nil, err
	}
	usable := addrs[:0]
	for _, addr := range addrs {
		if addr = addr.Unmap(); addr.IsValid() && !addr.IsUnspecified() && !addr.IsMulticast() && addr.Zone() == "" {
			usable = append(usable, addr)
		}
	}
	if len(usable) == 0 {
		return nil, errors.New("it has no address")
	}
	return usable, nil
}
