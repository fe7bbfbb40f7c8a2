package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// sessionOrders are the orders of --sort: the largest first, except for names.
var sessionOrders = map[string]func(a, b sessionReport) int{
	"account": func(a, b sessionReport) int { return cmp.Compare(a.Account, b.Account) },
	"client":  func(a, b sessionReport) int { return cmp.Compare(a.Client, b.Client) },
	"age":     func(a, b sessionReport) int { return a.Made.Compare(b.Made) },
	"peers":   func(a, b sessionReport) int { return cmp.Compare(b.Peers, a.Peers) },
	"bytes":   func(a, b sessionReport) int { return cmp.Compare(b.bytes(), a.bytes()) },
	"packets": func(a, b sessionReport) int { return cmp.Compare(b.packets(), a.packets()) },
	"drops":   func(a, b sessionReport) int { return cmp.Compare(b.drops(), a.drops()) },
}

// selectorFlags are the flags that choose sessions.
func selectorFlags(cmd *cobra.Command, s *selector) {
	cmd.Flags().StringVar(&s.Account, "account", "", "only sessions of this `account`")
	cmd.Flags().StringVar(&s.Network, "network", "", "only clients in this `network`, or with this address")
	cmd.Flags().StringVar(&s.Relayed, "relayed", "", "only the relayed `address`, with its port")
	cmd.Flags().StringVar(&s.Transport, "transport", "", "only clients over this `transport`: udp, tcp, tls or dtls")
}

func (c *ctl) sessionsCommand() *cobra.Command {
	var chosen selector
	var order string
	var watch bool
	var interval time.Duration
	var limit int
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List the running calls",
		Long: `sessions lists the live allocations: account, client, transport, relayed address, age, peers with a
permission, relayed traffic in each direction (payload bytes and packets), and dropped packets. An
allocation with an IPv4 and an IPv6 address has two lines.

--watch repeats the list until it is interrupted.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := noArguments(cmd, args); err != nil {
				return err
			}
			if sessionOrders[order] == nil {
				return fmt.Errorf("--sort %s: want account, client, age, peers, bytes, packets or drops", order)
			}
			if limit < 0 || interval < time.Second {
				return errors.New("--limit may not be negative, nor --interval less than 1s")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			for {
				var report sessionsReport
				err := c.call(cmd, http.MethodGet, "/v1/sessions?"+chosen.query(), nil, &report, func(w io.Writer) {
					slices.SortFunc(report.Sessions, func(a, b sessionReport) int {
						return cmp.Or(sessionOrders[order](a, b), cmp.Compare(a.Relayed, b.Relayed))
					})
					if watch {
						fmt.Fprint(w, "\x1b[H\x1b[2J") // to the top of an empty screen, ECMA-48
					}
					report.writeTo(w, limit, time.Now())
				})
				if err != nil || !watch {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(interval):
				}
			}
		}),
	}
	selectorFlags(cmd, &chosen)
	cmd.Flags().StringVar(&order, "sort", "bytes", "`order`: account, client, age, peers, bytes, packets or drops")
	cmd.Flags().IntVar(&limit, "limit", 0, "list at most `n` sessions (default: all)")
	cmd.Flags().BoolVar(&watch, "watch", false, "repeat the list")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "`duration` between lists with --watch")
	return cmd
}

// writeTo prints the sessions for people, no more than limit of them unless it is zero.
func (r sessionsReport) writeTo(w io.Writer, limit int, now time.Time) {
	shown := r.Sessions
	if limit > 0 && len(shown) > limit {
		shown = shown[:limit]
	}
	var bytes uint64
	for _, s := range r.Sessions {
		bytes += s.bytes()
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(shown) > 0 {
		fmt.Fprintln(table, "ACCOUNT\tCLIENT\tOVER\tRELAYED\tAGE\tPEERS\tTO PEERS\tPACKETS\tTO CLIENT\tPACKETS\tDROPPED")
	}
	for _, s := range shown {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%v\t%d\t%s\t%d\t%s\t%d\t%d\n", printable(s.Account), s.Client, s.Transport, s.Relayed,
			now.Sub(s.Made).Round(time.Second), s.Peers, byteCount(s.ToPeerBytes), s.ToPeerPackets,
			byteCount(s.ToClientBytes), s.ToClientPackets, s.drops())
	}
	table.Flush()
	fmt.Fprintf(w, "Sessions: %d, relayed: %s.\n", len(r.Sessions), byteCount(bytes))
}

func (c *ctl) disconnectCommand() *cobra.Command {
	var request disconnectRequest
	cmd := &cobra.Command{
		Use:   "disconnect",
		Short: "End running calls",
		Long: `disconnect ends the allocations that match all the flags, and prints them. Clients notice with their
next request, and may make new allocations: "mailturn ctl ban" prevents that. In a cluster, the other
machines do the same if --account or --network is given without --relayed; the list has only the
allocations of this machine.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := noArguments(cmd, args); err != nil {
				return err
			}
			if (request.selector == selector{}) != request.All {
				return errors.New("say which sessions to end, with --account, --network, --relayed or --transport; or --all")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var report sessionsReport
			return c.call(cmd, http.MethodPost, "/v1/disconnect", request, &report, func(w io.Writer) {
				for _, s := range report.Sessions {
					fmt.Fprintf(w, "Ended: %s, %s over %s, relayed address %s.\n", printable(s.Account), s.Client, strings.ToUpper(s.Transport), s.Relayed)
				}
				if len(report.Sessions) == 0 {
					fmt.Fprintln(w, "No session matches.")
				}
				printProblem(w, report.Problem)
			})
		}),
	}
	selectorFlags(cmd, &request.selector)
	cmd.Flags().BoolVar(&request.All, "all", false, "end all sessions")
	return cmd
}
