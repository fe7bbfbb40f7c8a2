package turn

import (
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/generator"
)

// sink counts the IPv4 packets that arrive over a network interface, and drops them at once.
type sink struct {
	count   *ebpf.Map
	program *ebpf.Program
	link    link.Link
}

// openSink attaches a sink to an interface.
func openSink(at wireEnd) (*sink, error) {
	s := &sink{}
	err := generator.InNamespace(at.namespace, func() error { return s.attach(at.name) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("drop packets at %s: %w", at.name, err), s.close())
	}
	return s, nil
}

func (s *sink) attach(name string) (err error) {
	if s.count, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		return err
	}
	const (
		protocol = 16     // offset in struct __sk_buff
		ipv4     = 0x0008 // ETH_P_IP in network byte order
		next     = -1     // TCX_NEXT
		drop     = 2      // TCX_DROP
	)
	s.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, protocol, asm.Word),
			asm.Mov.Imm(asm.R0, next),
			asm.JNE.Imm(asm.R2, ipv4, "end"), // ARP
			asm.LoadMapValue(asm.R1, s.count.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R0, drop),
			asm.Return().WithSymbol("end"),
		},
	})
	if err != nil {
		return err
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	s.link, err = link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: s.program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	return err
}

// packets returns the number of packets since openSink.
func (s *sink) packets() (n uint64, err error) {
	err = s.count.Lookup(uint32(0), &n)
	return n, err
}

// close detaches the sink.
func (s *sink) close() error {
	var errs []error
	if s.link != nil {
		errs = append(errs, s.link.Close())
	}
	return errors.Join(append(errs, s.program.Close(), s.count.Close())...)
}

// sinks are one for each of some interfaces.
type sinks []*sink

func openSinks(at [2]wireEnd) (all sinks, err error) {
	for _, e := range at {
		s, err := openSink(e)
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all = append(all, s)
	}
	return all, nil
}

// packets returns the number of packets that have arrived at all interfaces since openSinks.
func (all sinks) packets() (total uint64, err error) {
	for _, s := range all {
		n, err := s.packets()
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (all sinks) close() error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
