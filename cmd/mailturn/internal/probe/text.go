package probe

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mitchellh/go-wordwrap"
)

// width is the maximum line width in characters.
const width = 100

// mark is how a status is shown: a word to search for, and a color.
var marks = map[Status]struct{ word, colour string }{
	OK:      {"ok", "\x1b[32m"},
	Note:    {"note", ""},
	Skipped: {"skip", "\x1b[2m"},
	Warning: {"WARN", "\x1b[33m"},
	Failure: {"FAIL", "\x1b[31m"},
}

// inTable contains the checks that the table of relays shows for each row: the list has only the first one that is not ok.
var inTable = map[string]bool{"turn.relayed_address": true, "turn.relay_to_relay": true, "turn.direct": true}

const endColour = "\x1b[0m"

// WriteText writes the report for people: the verdict, what to do, the checks, and a table of the relays. Only with all, it shows
// notes, skipped checks, the checks that the table includes, the server's raw answer and the ICE servers.
func (r *Report) WriteText(w io.Writer, colour, all bool) error {
	var b strings.Builder
	paint := func(status Status, text string) string {
		if !colour || marks[status].colour == "" {
			return text
		}
		return marks[status].colour + text + endColour
	}
	b.WriteString(paint(r.Verdict.Status, strings.ToUpper(string(r.Verdict.Status))) + "  " + indented(r.Verdict.Text, 9) + "\n")
	if r.Verdict.Action != "" {
		b.WriteString("         → " + indented(r.Verdict.Action, 11) + "\n")
	}
	fmt.Fprintf(&b, "\n%s, %s\n\n", r.Target, (time.Duration(r.DurationMS * float64(time.Millisecond))).Round(10*time.Millisecond))
	part := ""
	told := make(map[string]bool)
	for _, c := range r.Checks {
		if !all && (c.Status == Note || c.Status == Skipped || inTable[c.ID] && (c.Status == OK || told[c.ID])) {
			continue
		}
		told[c.ID] = true
		next, _, _ := strings.Cut(c.ID, ".")
		title := ""
		if next != part {
			title, part = next, next
		}
		fmt.Fprintf(&b, "%-7s %s  %s\n", title, paint(c.Status, fmt.Sprintf("%-4s", marks[c.Status].word)), indented(capital(c.Summary), 14))
		if c.Action != "" && (c.Status == Warning || c.Status == Failure) && c.Action != r.Verdict.Action {
			fmt.Fprintf(&b, "              → %s\n", indented(c.Action, 16))
		}
	}
	if all && r.IMAP != nil {
		for _, line := range r.IMAP.Metadata {
			fmt.Fprintf(&b, "\n%s\n", line)
		}
	}
	if all && r.ICEServers != nil {
		fmt.Fprintf(&b, "\nICE servers, as core hands them to WebRTC:\n%s\n", r.ICEServers)
	}
	if len(r.Relays) > 0 {
		b.WriteByte('\n')
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ADDRESS\tVIA\tBINDING\tALLOCATE\tRELAYED ADDRESS\tRELAY TO RELAY\tFROM OUTSIDE")
		for _, relay := range r.Relays {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", relay.Address, strings.ToUpper(string(relay.Transport)),
				optional(relay.BindingMS), optional(relay.AllocateMS), orDash(relay.RelayedAddr), cell(relay.RelayToRelay), cell(relay.Direct))
		}
		table.Flush()
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteText writes the result of a load for people.
func (r *LoadReport) WriteText(w io.Writer) error {
	roundTrip := "unknown: nothing came back"
	if r.RTT != nil {
		roundTrip = fmt.Sprintf("median %s, 90 %% within %s, 99 %% within %s, at most %s", ms(r.RTT.P50), ms(r.RTT.P90), ms(r.RTT.P99), ms(r.RTT.Max))
	}
	_, err := fmt.Fprintf(w, `%s at %s over %s

allocations  %d, made in %s
sent         %d packets of %d bytes in %s: %.0f a second
came back    %d: %.0f a second, %.1f Mbit/s
lost         %.3f %%
round trip   %s
`, r.Target, r.Address, strings.ToUpper(string(r.Transport)), r.Allocations, ms(r.SetupMS), r.Sent, r.PacketBytes, ms(r.ElapsedMS), r.SentPPS,
		r.Received, r.ReceivedPPS, r.ReceivedBPS/1e6, 100*r.Loss, roundTrip)
	return err
}

// indented wraps text, and indents the second and later lines by that many spaces.
func indented(text string, indent int) string {
	return strings.ReplaceAll(wordwrap.WrapString(text, uint(width-indent)), "\n", "\n"+strings.Repeat(" ", indent))
}

func capital(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' || strings.HasPrefix(s, "imap") || strings.ContainsAny(strings.SplitN(s, " ", 2)[0], ".:") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func optional(v float64) string {
	if v == 0 {
		return "-"
	}
	return ms(v)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func cell(e *Echo) string {
	switch {
	case e == nil:
		return "-"
	case e.Received == 0:
		return fmt.Sprintf("0/%d", e.Sent)
	default:
		return fmt.Sprintf("%d/%d, %s", e.Received, e.Sent, ms(e.MedianMS))
	}
}
