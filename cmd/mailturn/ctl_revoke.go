package main

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

// revocationRequestOf returns the request for a target on the command line: the user name of a credential that has not expired, or else an
// account.
func revocationRequestOf(target string, now time.Time) revocationRequest {
	if expires, ok := credential.Expiry(target); ok && expires.After(now) && expires.Before(now.Add(maxRevocationTime)) {
		return revocationRequest{Username: target}
	}
	return revocationRequest{Account: target}
}

func (c *ctl) revokeCommand() *cobra.Command {
	var lifetime time.Duration
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke TARGET",
		Short: "Make the credentials that were issued so far to an account invalid",
		Long: `revoke refuses the credentials that TARGET was issued so far with 403, and ends the calls that use them.
Credentials that mailturn issues later are accepted. TARGET is an account, or the user name of a single
credential as "mailturn ctl sessions --json" shows it. The revocation survives a restart, and ends when the last
of the credentials has expired. In a cluster, it holds on all machines.

A credential of an account is revoked if it expires within the longest turn_ttl from now. For an account
whose credentials another program issues, set --lifetime to the lifetime that the program gives them.`,
		Args: oneArgument("TARGET"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			request := revocationRequestOf(args[0], time.Now())
			request.Reason = reason
			if lifetime != 0 {
				request.Lifetime = lifetime.String()
			}
			var report revocationsReport
			return c.call(cmd, http.MethodPost, "/v1/revocations", request, &report, func(w io.Writer) {
				for _, r := range report.Revocations {
					what := "the credentials of"
					if r.Username != "" {
						what = "the credential"
					}
					fmt.Fprintf(w, "Revoked: %s %s. Sessions that ended: %d.\n", what, printable(r.target()), len(report.Ended))
				}
				printProblem(w, report.Problem)
			})
		}),
	}
	cmd.Flags().DurationVar(&lifetime, "lifetime", 0, "`duration` for which credentials of the account are valid (default: the longest turn_ttl)")
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for the list and the log")
	return cmd
}

func (c *ctl) revocationsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revocations",
		Short: "List the revoked credentials",
		Long:  "revocations lists the accounts whose credentials were revoked, and single credentials, until these expire.",
		Args:  noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var report revocationsReport
			return c.call(cmd, http.MethodGet, "/v1/revocations", nil, &report, func(w io.Writer) {
				if len(report.Revocations) == 0 {
					fmt.Fprintln(w, "No credentials are revoked.")
					return
				}
				table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "REVOKED\tMADE\tEXPIRES\tBY\tREASON")
				for _, r := range report.Revocations {
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", printable(r.target()), r.Made.Local().Format(time.DateTime),
						r.Until.Local().Format(time.DateTime), printable(r.By), printable(r.Reason))
				}
				table.Flush()
			})
		}),
	}
}
