//go:build amd64 || arm64

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// How a filter of ours is recognized, among those of others and after the process that made it has ended. The name continues with
// the user of that process: see place.
const (
	filterName     = "mailturn of user "
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

// filterMessage returns the header of all messages about our filter of a place on an interface, or about all of them if handle is zero.
func filterMessage(index int, handle uint32) []byte {
	info := uint32(filterPriority)<<16 | uint32(big(unix.ETH_P_ALL))
	return attribute(tcMessage(index, handle, clsactIngress, info), unix.TCA_KIND, []byte("bpf\x00"))
}

// addFilter attaches a program to the clsact hook of an interface, as systems without tcx have it. The caller holds the place. Filters
// that processes which have ended have left are removed. Those of other places see the packets that this one passes up.
func addFilter(index int, p *place, program int) error {
	_ = RemoveFilters(index) // what it leaves passes everything up
	discipline := attribute(tcMessage(index, clsact, clsactParent, 0), unix.TCA_KIND, []byte("clsact\x00"))
	_, err := ask(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, discipline)
	if err != nil && !errors.Is(err, unix.EEXIST) { // that of another program serves as well
		return fmt.Errorf("add clsact to interface %d: %w", index, err)
	}
	options := attribute(nil, bpfFD, binary.NativeEndian.AppendUint32(nil, uint32(program)))
	options = attribute(options, bpfName, fmt.Appendf(nil, "%s%d\x00", filterName, os.Geteuid()))
	options = attribute(options, bpfFlags, binary.NativeEndian.AppendUint32(nil, directAction))
	filter := attribute(filterMessage(index, p.handle), unix.TCA_OPTIONS, options)
	if _, err := ask(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, filter); err != nil {
		return fmt.Errorf("add a filter to interface %d: %w", index, err)
	}
	return nil
}

// RemoveFilters removes the filters that processes which have ended have left on the clsact hook of an interface. It removes no filter of
// other programs, or of a Path that is in use. The hook itself stays, because others may use it.
func RemoveFilters(index int) error {
	all, err := ask(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, filterMessage(index, 0))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil // no hook, or no interface
	}
	if err != nil {
		return fmt.Errorf("look for filters on interface %d: %w", index, err)
	}
	var errs []error
	for _, m := range all {
		if handle, user, ok := ours(m); ok {
			inUse, err := held(handle, user)
			if err == nil && !inUse {
				err = removeFilter(index, handle)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeFilter removes the filter of a place from an interface, if there is one.
func removeFilter(index int, handle uint32) error {
	_, err := ask(unix.RTM_DELTFILTER, 0, filterMessage(index, handle))
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil // removed, or no filter, no hook, or no interface
	}
	return fmt.Errorf("remove the filter from interface %d: %w", index, err)
}

// ours returns the handle of the filter that a message describes, and the user of the process that made it. It returns false for a filter
// of others.
func ours(m syscall.NetlinkMessage) (handle, user uint32, ok bool) {
	if m.Header.Type != unix.RTM_NEWTFILTER || len(m.Data) < tcMessageSize {
		return 0, 0, false
	}
	info := binary.NativeEndian.Uint32(m.Data[16:])
	text, ok := strings.CutPrefix(nameOf(m.Data[tcMessageSize:]), filterName)
	id, err := strconv.ParseUint(text, 10, 32)
	if !ok || err != nil || info>>16 != filterPriority {
		return 0, 0, false
	}
	return binary.NativeEndian.Uint32(m.Data[8:]), uint32(id), true
}

// nameOf returns the name of the filter with these attributes.
func nameOf(b []byte) string {
	for kind, value := range attributes(b) {
		if kind != unix.TCA_OPTIONS {
			continue
		}
		for kind, value := range attributes(value) {
			if kind == bpfName {
				return unix.ByteSliceToString(value)
			}
		}
	}
	return ""
}
