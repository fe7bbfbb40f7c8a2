package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/rotation"
)

func (c *ctl) secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Replace the secret with which the machines of a cluster issue credentials",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.secretRotateCommand(), c.secretStatusCommand())
	return cmd
}

func (c *ctl) secretRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Make a new secret for all machines of the cluster",
		Long: `rotate makes a new secret and sends it to all machines of the cluster, encrypted with cluster.key. They issue
credentials with it as soon as all relays accept it, which takes a few seconds. The secret that it replaces is
accepted until the last credential that was issued with it has expired. The secrets of the configuration
files are always accepted.`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var report secretsReport
			return c.call(cmd, http.MethodPost, "/v1/secrets", nil, &report, func(w io.Writer) {
				if len(report.Secrets) > 0 {
					fmt.Fprintf(w, "Made secret %s. It is in use when all relays accept it: see mailturn ctl secret status.\n", report.Secrets[0].ID)
				}
				printProblem(w, report.Problem)
			})
		}),
	}
}

func (c *ctl) secretStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "List the secrets that relays of the cluster accept",
		Long:  "status lists the secrets by their IDs, the latest first, and the relays that do not accept the latest one yet.",
		Args:  noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var report secretsReport
			return c.call(cmd, http.MethodGet, "/v1/secrets", nil, &report, func(w io.Writer) { report.writeTo(w) })
		}),
	}
}

// secretStates are the states of a rotation.Report in words.
var secretStates = map[string]string{
	rotation.Waiting: "waits until all relays accept it", rotation.Issuing: "in use", rotation.Replaced: "replaced, accepted until ",
}

// writeTo prints the secrets for people.
func (r secretsReport) writeTo(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SECRET\tMADE\tSTATE")
	for _, s := range r.Secrets {
		state := secretStates[s.State]
		if s.State == rotation.Replaced && s.Until != nil {
			state += s.Until.Local().Format(time.DateTime)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", printable(s.ID), s.Made.Local().Format(time.DateTime), state)
	}
	for _, id := range r.File {
		fmt.Fprintf(table, "%s\t\tof the configuration, accepted\n", printable(id))
	}
	table.Flush()
	for _, s := range r.Secrets {
		if len(s.Lacking) > 0 {
			fmt.Fprintf(w, "%s is not accepted by: %s\n", printable(s.ID), printable(strings.Join(s.Lacking, ", ")))
		}
	}
}
