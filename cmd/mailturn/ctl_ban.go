package main

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// banRequestOf returns the request for a target on the command line: an address or a network, or else an account.
func banRequestOf(target string) banRequest {
	if _, err := parseNetwork(target); err == nil {
		return banRequest{Network: target}
	}
	return banRequest{Account: target}
}

func (c *ctl) banCommand() *cobra.Command {
	var d time.Duration
	var reason string
	cmd := &cobra.Command{
		Use:   "ban TARGET",
		Short: "Refuse the calls of an account, an address or a network for a limited time",
		Long: `ban refuses new calls of TARGET with 403 and ends the running ones. TARGET is an IP address, a network
such as 198.51.100.0/24, or an account. The ban survives a restart. A ban of the same TARGET is
replaced. The account still gets mail and credentials. In a cluster, the ban holds on all machines.`,
		Args: oneArgument("TARGET"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			request := banRequestOf(args[0])
			request.For, request.Reason = d.String(), reason
			var report bansReport
			return c.call(cmd, http.MethodPost, "/v1/bans", request, &report, func(w io.Writer) {
				for _, b := range report.Bans {
					fmt.Fprintf(w, "Banned: %s, until %s. Sessions that ended: %d.\n", printable(b.target()),
						b.Until.Local().Format(time.DateTime), len(report.Ended))
				}
				printProblem(w, report.Problem)
			})
		}),
	}
	cmd.Flags().DurationVar(&d, "for", defaultBanTime, "`duration` of the ban, at most 8784h")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the list and the log")
	return cmd
}

// printProblem prints what an operator should know, if there is something.
func printProblem(w io.Writer, problem string) {
	if problem != "" {
		fmt.Fprintln(w, printable(problem))
	}
}

func (c *ctl) unbanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unban TARGET",
		Short: "Lift a ban",
		Long:  "unban lifts the ban of TARGET, an account, address or network as \"mailturn ctl bans\" lists it.",
		Args:  oneArgument("TARGET"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			var report bansReport
			return c.call(cmd, http.MethodDelete, "/v1/bans", banRequestOf(args[0]), &report, func(w io.Writer) {
				fmt.Fprintf(w, "Lifted. Remaining bans: %d.\n", len(report.Bans))
				printProblem(w, report.Problem)
			})
		}),
	}
}

func (c *ctl) bansCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "bans",
		Short: "List the bans",
		Args:  noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var report bansReport
			return c.call(cmd, http.MethodGet, "/v1/bans", nil, &report, func(w io.Writer) {
				if len(report.Bans) == 0 {
					fmt.Fprintln(w, "There are no bans.")
					return
				}
				table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "BANNED\tUNTIL\tBY\tREASON")
				for _, b := range report.Bans {
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", printable(b.target()), b.Until.Local().Format(time.DateTime), printable(b.By), printable(b.Reason))
				}
				table.Flush()
			})
		}),
	}
}
