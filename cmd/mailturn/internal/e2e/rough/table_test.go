package rough

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// table is the document about the run.
func (r *run) table(t *testing.T) string {
	var out strings.Builder
	verdict := "All of the limits below were met."
	if t.Failed() {
		verdict = "Not all of the limits below were met."
	}
	commit, err := output("git", "describe", "--always", "--dirty", "--abbrev=12")()
	if err != nil {
		t.Error(err)
	}
	kernel, err := output("uname", "-sr")()
	if err != nil {
		t.Error(err)
	}
	fmt.Fprintf(&out, `# A long call on bad networks

`+"`.ci/full`"+` writes this file. Several calls run at the same time over one relay, each between two programs or browsers
in network namespaces of their own, with a router in front of each that translates IPv4 addresses. ICE may use only relayed
candidates. Each end sends %d messages a second over an unordered data channel whose maxRetransmits is 0.

| | |
| --- | --- |
| begun | %s |
| calls lasted | %v |
| commit | %s |
| system | %s, %d cores |
| restarts of the relay | %d, in each of which every call had to connect again |
| credentials | valid for %v, from IMAP METADATA, fetched for each connection and ICE restart |

%s

## Calls

"Arrived" counts the messages while nothing was done to a call: up to each event, and from when messages came at both ends again.
"Pause" is the longest time without a message meanwhile, which may be %v; "after events" is the longest time from an event, a
restart of the relay or a change of address, until messages came at both ends again, which may be %v. It may be 15 seconds more where
UDP is blocked, until pion has given up on UDP, and where addresses change, until SCTP sends again.

| call | condition | message | sent | arrived | want | round trip | pause | events: ICE restarts | new connections | after events |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
`, rate, r.began.UTC().Format("2006-01-02 15:04 UTC"), r.length, commit, kernel, runtime.NumCPU(), len(r.relay.runs)-1, r.ttl, verdict, gapLimit, eventLimit)
	for _, c := range r.calls {
		ends, sent, arrived, trips, gaps := c.columns(t)
		fmt.Fprintf(&out, "| %s | %s | %d bytes | %s | %s | %.1f %% | %s | %s | %d | %d | %.1f s |\n", ends, c.row.condition, c.row.size,
			sent, arrived, 100*c.row.delivered, trips, gaps, c.restarts, c.connections, c.interrupted.Seconds())
	}
	out.WriteString("\nOf each pair of figures, the first is what the first end sent or saw.\n")
	for _, c := range r.calls {
		for _, note := range c.notes {
			fmt.Fprintf(&out, "\n- %s and %s, %s: %s", c.ends[0].kind, c.ends[1].kind, c.row.condition, oneLine(note))
		}
	}
	out.WriteString("\n\n## What had to fail\n\n| tried | what happened |\n| --- | --- |\n")
	for _, c := range r.controls {
		fmt.Fprintf(&out, "| %s | %s |\n", c.what, oneLine(c.happened))
	}
	r.relayTable(&out)
	out.WriteString(delays)
	return out.String()
}

// delays explains the time after events. The times are those of RTO.Min and RTO.Max of pion/sctp 1.12.0.
const delays = `
## What delays messages

After an outage, messages do not wait for ICE alone. SCTP, below the data channel, has unacknowledged packets, and sends nothing more
until its retransmission timer T3-rtx expires. The timer doubles each time (RFC 9260 section 6.3.3): in pion/sctp, from 1 second to 60,
so that it expires 1, 3, 7, 15 and 31 seconds after the outage begins. ICE is ready 2 to 4 seconds after a change of address. If it is
not ready at 3 seconds, or the packet that is sent then is lost, or its acknowledgement, messages come at 7 seconds, at 15, or at 31.
Voice and video do not use SCTP, and so do not wait for it.
`

// columns are the fields of a call that are about both ends.
func (c *call) columns(t *testing.T) (ends, sent, arrived, trips, gaps string) {
	var e, s, a, r, g []string
	for i, end := range c.ends {
		version, err := kinds[end.kind].version()
		if err != nil {
			t.Errorf("version of %s: %v", end.kind, err)
		}
		e = append(e, end.kind+" "+version)
		s = append(s, fmt.Sprint(end.sent))
		a = append(a, fmt.Sprintf("%d (%.2f %%)", c.ends[1-i].received, 100*c.delivered(1-i)))
		slices.Sort(end.trips)
		trip := "none"
		if n := len(end.trips); n > 0 {
			trip = fmt.Sprintf("%.1f ms", end.trips[n/2])
		}
		r = append(r, trip)
		g = append(g, fmt.Sprintf("%.1f s", end.gap.Seconds()))
	}
	return strings.Join(e, ", "), strings.Join(s, ", "), strings.Join(a, ", "), strings.Join(r, ", "), strings.Join(g, ", ")
}

// relayTable is what the relay's metrics said.
func (r *run) relayTable(out *strings.Builder) {
	out.WriteString("\n## The relay\n\nAfter each restart there is another process. Its resources are those before its first client, with all calls up, and before its end.\n\n" +
		"| process | resident memory | goroutines | descriptors | allocations made | refreshed | refused | packets relayed |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	resource := func(p process, name string, unit float64) string {
		return fmt.Sprintf("%.0f, %.0f, %.0f", p.idle[name]/unit, p.busy[name]/unit, p.last[name]/unit)
	}
	all := metrics{}
	for i, p := range r.relay.runs {
		fmt.Fprintf(out, "| %d | %s MiB | %s | %s | %.0f | %.0f | %.0f | %.0f |\n", i+1,
			resource(p, "process_resident_memory_bytes", 1<<20), resource(p, "go_goroutines", 1), resource(p, "process_open_fds", 1),
			p.last.sum("mailturn_turn_allocations_made_total"), p.last.sum("mailturn_turn_allocations_refreshed_total"),
			p.last.sum("mailturn_turn_allocations_refused_total"), p.last.sum("mailturn_turn_relayed_packets_total"))
		for name, value := range p.last {
			all[name] += value
		}
	}
	last := r.relay.running()
	fmt.Fprintf(out, "\nWhen the calls had ended, the last process had %.0f descriptors, %.0f goroutines and %.0f allocations, which were of clients that had changed their addresses.\n",
		last.after["process_open_fds"], last.after["go_goroutines"], last.after.sum("mailturn_turn_allocations"))
	out.WriteString("\n| counter of all processes | |\n| --- | --- |\n")
	var names []string
	for name, value := range all {
		for _, prefix := range []string{"allocations_refused_total", "allocations_ended_total", "dropped_packets_total", "error_responses_total", "pion_failures_total"} {
			if value > 0 && strings.HasPrefix(name, "mailturn_turn_"+prefix) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(out, "| `%s` | %.0f |\n", name, all[name])
	}
}

// oneLine is text for the cell of a table.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(strings.ReplaceAll(text, "|", "/")), " ")
	return text[:min(len(text), 300)]
}
