package count

import (
	"fmt"
	"sync/atomic"

	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/handover"
)

// named calls yield with each counter that survives an upgrade, and with a name that stays the same in all releases. Those of what is
// live at present are not among them.
func (c *Counters) named(yield func(name string, counter *atomic.Uint64)) {
	yield("made", &c.Made)
	yield("refreshed", &c.Refreshed)
	yield("streams_refused", &c.StreamsRefused)
	yield("icmp", &c.ICMP)
	for direction, traffic := range map[string]*Traffic{
		"to_peer": &c.ToPeer, "to_client": &c.ToClient, "kernel_to_peer": &c.KernelToPeer, "kernel_to_client": &c.KernelToClient,
	} {
		yield(direction+"/packets", &traffic.Packets)
		yield(direction+"/bytes", &traffic.bytes)
	}
	for i := range c.Refused {
		yield("refused/"+event.RefusalReason(i).String(), &c.Refused[i])
	}
	for i := range c.Ended {
		yield("ended/"+event.EndReason(i).String(), &c.Ended[i])
	}
	for i := range c.Dropped {
		yield("dropped/"+event.DropReason(i).String(), &c.Dropped[i])
	}
	for i, method := range RequestMethods {
		for j, code := range ErrorCodes {
			yield(fmt.Sprintf("errors/%v/%d", method, int(code)), &c.Errors[i][j])
		}
	}
}

// Export returns the counters that are not zero.
func (c *Counters) Export() (all []handover.Counter) {
	c.named(func(name string, counter *atomic.Uint64) {
		if value := counter.Load(); value > 0 {
			all = append(all, handover.Counter{Name: name, Value: value})
		}
	})
	return all
}

// Restore adds what Export has returned, in this or another release.
func (c *Counters) Restore(all []handover.Counter) {
	values := make(map[string]uint64, len(all))
	for _, counter := range all {
		values[counter.Name] = counter.Value
	}
	c.named(func(name string, counter *atomic.Uint64) { counter.Add(values[name]) })
}

// Export returns the traffic.
func (t *Traffic) Export() handover.Traffic {
	return handover.Traffic{Packets: t.Packets.Load(), Bytes: t.bytes.Load()}
}

// Restore adds what Export has returned.
func (t *Traffic) Restore(was handover.Traffic) {
	t.Packets.Add(was.Packets)
	t.bytes.Add(was.Bytes)
}
