package main

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func (c *ctl) clusterCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cluster",
		Short: "List the relays of the cluster",
		Long: `cluster lists the relays that are alive in the cluster of this machine, as this machine sees them: the
host that clients are told, the state, the allocations and their limit, and what it relays now.`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var report clusterReport
			return c.call(cmd, http.MethodGet, "/v1/cluster", nil, &report, func(w io.Writer) { report.writeTo(w) })
		}),
	}
}

// writeTo prints the relays for people.
func (r clusterReport) writeTo(w io.Writer) {
	for _, outage := range r.Outages {
		fmt.Fprintln(w, outage)
	}
	if len(r.Relays) == 0 {
		fmt.Fprintln(w, "No relays are known.")
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSERVER\tREGION\tWEIGHT\tSTATE\tALLOCATIONS\tLIMIT\tMBIT/S\tVERSION")
	for _, relay := range r.Relays {
		limit := "none"
		if relay.Capacity > 0 {
			limit = fmt.Sprint(relay.Capacity)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%d\t%s\t%.1f\t%s\n", printable(relay.Name), printable(relay.Server), printable(relay.Region),
			relay.Weight, stateOf(relay), relay.Allocations, limit, float64(relay.BitsPerSecond)/1e6, printable(relay.Version))
	}
	table.Flush()
	for _, name := range r.NoSecret {
		fmt.Fprintf(w, "%s accepts no secret of this machine's configuration, so it refuses credentials that were issued with it\n", printable(name))
	}
	for _, relay := range r.Relays {
		for _, failed := range relay.FailedBy {
			fmt.Fprintf(w, "%s cannot be reached from %s\n", printable(relay.Name), printable(failed))
		}
	}
}
