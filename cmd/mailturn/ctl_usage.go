package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func (c *ctl) usageCommand() *cobra.Command {
	var account string
	var days, limit int
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Print what each account has relayed on each day",
		Long: `usage lists what each account has relayed today, and with --days on the days before: payload bytes and
packets in each direction. Days are those of UTC.

The configuration must have enabled this beforehand: usage = "720h" in the control block keeps a day
for 30 days after its end.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := noArguments(cmd, args); err != nil {
				return err
			}
			if days < 1 || days > maxUsageDays || limit < 0 {
				return errors.New("want --days from 1 to 367, and a --limit that is not negative")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"days": {strconv.Itoa(days)}}
			if account != "" {
				query.Set("account", account)
			}
			var report usageReport
			return c.call(cmd, http.MethodGet, "/v1/usage?"+query.Encode(), nil, &report, func(w io.Writer) { report.writeTo(w, limit) })
		}),
	}
	cmd.Flags().StringVar(&account, "account", "", "only this `account`")
	cmd.Flags().IntVar(&days, "days", 1, "`number` of days, today included")
	cmd.Flags().IntVar(&limit, "limit", 0, "list at most `n` accounts of each day (default: all)")
	return cmd
}

// writeTo prints the report for people, no more than limit accounts of each day unless it is zero.
func (r usageReport) writeTo(w io.Writer, limit int) {
	if len(r.Usage) == 0 {
		fmt.Fprintln(w, "Nothing was relayed.")
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "DAY\tACCOUNT\tTO PEERS\tPACKETS\tTO CLIENT\tPACKETS")
	shown := make(map[string]int)
	for _, e := range r.Usage {
		if shown[e.Day]++; limit > 0 && shown[e.Day] > limit {
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%d\n", printable(e.Day), printable(e.Account), byteCount(e.ToPeerBytes), e.ToPeerPackets,
			byteCount(e.ToClientBytes), e.ToClientPackets)
	}
	table.Flush()
}
