//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// How a filter of ours is recognized, among those of others and after the process that made it has ended. The number of a place is
// added to the handle.
const (
	filterName     = "mailturn"
	filterHandle   = 0x6d74
	filterPriority = 0x6d74
)

// Numbers of Linux' pkt_sched.h and pkt_cls.h.
const (
	clsact        = 0xffff0000 // handle of the queueing discipline
	clsactParent  = 0xfffffff1
	clsactIngress = 0xfffffff2

	bpfFD        = 6
	bpfName      = 7
	bpfFlags     = 8
	directAction = 1

	tcMessageSize = 20
)

// tcMessage returns the header of all messages of traffic control: struct tcmsg.
func tcMessage(index int, handle, parent, info uint32) []byte {
	b := make([]byte, 4, 256) // the address family, and padding
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, handle)
	b = binary.NativeEndian.AppendUint32(b, parent)
	return binary.NativeEndian.AppendUint32(b, info)
}

// filterMessage returns the header of a message about our filter of a place on an interface.
func filterMessage(index, place int) []byte {
	info := uint32(filterPriority)<<16 | uint32(big(unix.ETH_P_ALL))
	return attribute(tcMessage(index, filterHandle+uint32(place), clsactIngress, info), unix.TCA_KIND, []byte("bpf\x00"))
}

// addFilter attaches a program to the clsact hook of an interface, as systems without tcx have it. The caller holds the place. Filters
// that processes which have ended have left are removed. Those of other places see the packets that this one passes up.
func addFilter(index, place, program int) error {
	_ = RemoveFilters(index) // what it leaves passes everything up
	if err := removeFilter(index, place); err != nil {
		return err
	}
	discipline := attribute(tcMessage(index, clsact, clsactParent, 0), unix.TCA_KIND, []byte("clsact\x00"))
	_, err := ask(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, discipline)
	if err != nil && !errors.Is(err, unix.EEXIST) { // that of another program serves as well
		return fmt.Errorf("add clsact to interface %d: %w", index, err)
	}
	options := attribute(nil, bpfFD, binary.NativeEndian.AppendUint32(nil, uint32(program)))
	options = attribute(options, bpfName, []byte(filterName+"\x00"))
	options = attribute(options, bpfFlags, binary.NativeEndian.AppendUint32(nil, directAction))
	filter := attribute(filterMessage(index, place), unix.TCA_OPTIONS, options)
	if _, err := ask(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, filter); err != nil {
		return fmt.Errorf("add a filter to interface %d: %w", index, err)
	}
	return nil
}

// RemoveFilters removes the filters that processes which have ended have left on the clsact hook of an interface. It removes no filter of
// other programs, or of a Path that is in use. The hook itself stays, because others may use it.
func RemoveFilters(index int) error {
	var errs []error
	for number := range places {
		p, err := claim(number)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err == nil {
			err = errors.Join(removeFilter(index, number), p.release())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeFilter removes the filter of a place from an interface, if there is one.
func removeFilter(index, place int) error {
	found, err := ask(unix.RTM_GETTFILTER, 0, filterMessage(index, place))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil // no filter, no hook, or no interface
	}
	if err != nil {
		return fmt.Errorf("look for a filter on interface %d: %w", index, err)
	}
	if name := nameOf(found); name != filterName {
		return fmt.Errorf("interface %d already has a filter with priority %#x, which belongs to %q", index, filterPriority, name)
	}
	if _, err := ask(unix.RTM_DELTFILTER, 0, filterMessage(index, place)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the filter from interface %d: %w", index, err)
	}
	return nil
}

// nameOf returns the name of the filter that messages describe.
func nameOf(messages []syscall.NetlinkMessage) string {
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWTFILTER || len(m.Data) < tcMessageSize {
			continue
		}
		for kind, value := range attributes(m.Data[tcMessageSize:]) {
			if kind != unix.TCA_OPTIONS {
				continue
			}
			for kind, value := range attributes(value) {
				if kind == bpfName {
					return unix.ByteSliceToString(value)
				}
			}
		}
	}
	return ""
}
