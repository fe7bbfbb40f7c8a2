package main

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// parseTime parses the time of a complaint. One without a zone is in that of now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "now" {
		return now, nil
	}
	for _, layout := range []string{
		time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04",
		"2006-01-02 15:04:05 -0700", "2006-01-02 15:04 -0700", time.RFC1123Z,
	} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("TIME %q: want one such as 2026-11-30T14:05:00Z, \"2026-11-30 14:05\" (local time) or now", text)
}

func (c *ctl) whoCommand() *cobra.Command {
	var within time.Duration
	cmd := &cobra.Command{
		Use:   "who PORT TIME",
		Short: "Print which account held a relayed port at a given time",
		Long: `who answers a complaint about packets that came from the relay: it lists the accounts that held the
relayed PORT, or ADDRESS:PORT, at TIME, and when they did. TIME is such as 2026-11-30T14:05:00Z,
"2026-11-30 14:05" in local time, or now. The complainant's clock may differ by --within.

The configuration must have enabled the record beforehand: record = "168h" in the control block
keeps a call for a week after it has ended. Calls that sent nothing to a peer are not recorded.`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) < 2:
				return fmt.Errorf("want PORT and TIME")
			case len(args) > 2:
				return fmt.Errorf("too many arguments: put a TIME with a space in quotes")
			}
			_, err := whoQuery(args[0], args[1], within, time.Now())
			return err
		},
		RunE: action(func(cmd *cobra.Command, args []string) error {
			query, err := whoQuery(args[0], args[1], within, time.Now())
			if err != nil {
				return err
			}
			var report holdersReport
			return c.call(cmd, http.MethodGet, "/v1/holders?"+query.Encode(), nil, &report, func(w io.Writer) { report.writeTo(w, args[0], query.Get("time")) })
		}),
	}
	cmd.Flags().DurationVar(&within, "within", time.Minute, "how much the clocks may differ, a `duration` of at most 24h")
	return cmd
}

// whoQuery returns the parameters of GET /v1/holders.
func whoQuery(port, at string, within time.Duration, now time.Time) (url.Values, error) {
	t, err := parseTime(at, now)
	if err != nil {
		return nil, err
	}
	query := url.Values{"port": {port}, "time": {t.Format(time.RFC3339)}, "within": {within.String()}}
	if relayed, err := netip.ParseAddrPort(port); err == nil {
		query.Set("port", fmt.Sprint(relayed.Port()))
		query.Set("address", relayed.Addr().String())
	}
	return query, nil
}

// writeTo prints the report for people.
func (r holdersReport) writeTo(w io.Writer, port, at string) {
	if len(r.Holders) == 0 {
		fmt.Fprintf(w, "The record has nobody who held %s at %s and sent something.\n", printable(port), at)
	} else {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ACCOUNT\tCLIENT\tOVER\tRELAYED\tFROM\tUNTIL\tTO PEERS\tPACKETS")
		for _, h := range r.Holders {
			until := "now"
			if !h.Until.IsZero() {
				until = h.Until.Local().Format(time.DateTime)
			}
			fmt.Fprintf(table, "%s\t%v\t%s\t%v\t%s\t%s\t%s\t%d\n", printable(h.Account), h.Client, h.Transport, h.Relayed,
				h.From.Local().Format(time.DateTime), until, byteCount(h.ToPeerBytes), h.ToPeerPackets)
		}
		table.Flush()
	}
	if len(r.Omitted) > 0 {
		names := make([]string, len(r.Omitted))
		for i, name := range r.Omitted {
			names[i] = printable(name)
		}
		fmt.Fprintf(w, "These accounts had more calls than the record has: %s.\n", strings.Join(names, ", "))
	}
	if t, err := time.Parse(time.RFC3339, at); err == nil && t.Before(r.Since) {
		fmt.Fprintf(w, "The record begins only at %s.\n", r.Since.Local().Format(time.DateTime))
	}
}
