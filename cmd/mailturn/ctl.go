package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/provision"
)

// ctl is what the commands of mailturn ctl have in common.
type ctl struct {
	socket, configFile string
	unitFile           string // the configuration of mailturn.service
	asJSON             bool
}

func newCtlCommand() *cobra.Command {
	var c ctl
	cmd := &cobra.Command{
		Use:   "ctl",
		Short: "Inspect and change a running mailturn",
		Long: `ctl talks to a running mailturn over its control socket. Anybody who can write to the socket can use
it: root, the user that runs mailturn, and the members of the socket's group, mailturn-admin by
default. Every change is logged with the user who made it.

--socket names the socket. With --config, it is the socket of that configuration and no other: path
in its control block, otherwise control.socket in its state_dir. For ` + provision.ConfigFile + `,
which mailturn.service uses, ` + serviceSocket + ` comes first. Without both, it is
` + serviceSocket + `, or else control.socket in the default state directory.`,
	}
	c.flags(cmd)
	cmd.AddCommand(c.statusCommand(), c.reloadCommand(), c.logLevelCommand(), c.drainCommand(), c.credentialsCommand(),
		c.sessionsCommand(), c.whoCommand(), c.usageCommand(), c.disconnectCommand(), c.banCommand(), c.unbanCommand(), c.bansCommand(),
		c.revokeCommand(), c.revocationsCommand(), c.clusterCommand(), c.secretCommand())
	return cmd
}

// flags adds the flags of cmd and the commands below it.
func (c *ctl) flags(cmd *cobra.Command) {
	c.unitFile = provision.ConfigFile
	cmd.PersistentFlags().StringVar(&c.socket, "socket", "", "control `socket`")
	cmd.PersistentFlags().StringVar(&c.configFile, "config", "", "configuration `file` of the running mailturn")
	cmd.PersistentFlags().BoolVar(&c.asJSON, "json", false, "print JSON")
}

// ask sends a request, and prints nothing.
func (c *ctl) ask(cmd *cobra.Command, method, path string, in, out any) error {
	client, err := c.client(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	return client.Call(cmd.Context(), method, path, in, out)
}

// call sends a request. With --json it prints the response, otherwise it calls print, after the response is in out.
func (c *ctl) call(cmd *cobra.Command, method, path string, in, out any, print func(w io.Writer)) error {
	if err := c.ask(cmd, method, path, in, out); err != nil {
		return err
	}
	if !c.asJSON {
		print(cmd.OutOrStdout())
		return nil
	}
	return writeJSON(cmd.OutOrStdout(), out, true)
}

func (c *ctl) statusCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print what mailturn serves, since when, and what is wrong",
		Args:  noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var report statusReport
			err := c.call(cmd, http.MethodGet, "/v1/status", nil, &report, func(w io.Writer) { report.writeTo(w, time.Now()) })
			if err == nil && check && report.Problem != "" {
				return errReported
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with status 1 if an endpoint cannot serve, for the health check of a container")
	return cmd
}

// writeTo prints the report for people.
func (s statusReport) writeTo(w io.Writer, now time.Time) {
	since := func(t time.Time) string {
		return fmt.Sprintf("%s (%v ago)", t.Local().Format("2006-01-02 15:04:05"), now.Sub(t).Round(time.Second))
	}
	fmt.Fprintf(w, "mailturn %s, %s, pid %d\n", s.Version, s.State, s.PID)
	fmt.Fprintf(w, "started:       %s\n", since(s.Started))
	if !s.Loaded.IsZero() {
		fmt.Fprintf(w, "configuration: %s\n", since(s.Loaded))
	}
	if s.ReloadError != "" {
		fmt.Fprintf(w, "not reloaded:  %s\n", printable(s.ReloadError))
	}
	if s.Problem != "" {
		fmt.Fprintf(w, "problem:       %s\n", printable(s.Problem))
	}
	for _, e := range s.Endpoints {
		fmt.Fprintf(w, "%s %s", e.Kind, printable(e.Name))
		if r := e.Relay; r != nil {
			fmt.Fprintf(w, ": %d allocations, relayed %s to peers and %s to clients", r.Allocations, byteCount(r.ToPeerBytes), byteCount(r.ToClientBytes))
			switch {
			case r.KernelPath:
				fmt.Fprintf(w, ", kernel path ready (channels: %d)", r.KernelChannels)
			case r.KernelProblem != "":
				fmt.Fprintf(w, ", kernel path not in use: %s", printable(r.KernelProblem))
			}
		}
		if l := e.LogLevel; l != nil {
			fmt.Fprintf(w, ", log level %s until %s", l.Level, l.Until.Local().Format(time.TimeOnly))
		}
		fmt.Fprintln(w)
	}
}

func (c *ctl) reloadCommand() *cobra.Command {
	var pid int
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration, and print whether it is in force",
		Long: `reload reads the configuration again, as SIGHUP does, waits until it is in force, and prints which
attributes and blocks have changed, with the warnings of the configuration. If it has errors,
or changes what requires a restart, it prints them, nothing changes, and the exit status is 1.
After the program was replaced, it upgrades instead, as "mailturn upgrade" does.

--pid is for service managers: if there is no control socket, reload sends SIGHUP to that process,
and does not wait.`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var report reloadReport
			err := c.call(cmd, http.MethodPost, "/v1/reload", nil, &report, func(w io.Writer) {
				if report.Upgraded != nil {
					report.Upgraded.writeTo(w)
					return
				}
				fmt.Fprint(cmd.ErrOrStderr(), printableLines(report.Output))
				if len(report.Applied) == 0 {
					fmt.Fprintln(w, "Reloaded. The configuration is the same; the files that it names were read again.")
					return
				}
				fmt.Fprintln(w, "Reloaded. Applied:")
				for _, name := range report.Applied {
					fmt.Fprintf(w, "  %s\n", printable(name))
				}
			})
			if errors.Is(err, errNoSocket) && pid > 0 {
				return hangUp(cmd.OutOrStdout(), pid)
			}
			return err
		}),
	}
	cmd.Flags().IntVar(&pid, "pid", 0, "send SIGHUP to the process `PID` if there is no control socket")
	return cmd
}

// hangUp has a process reload its configuration that cannot report the result.
func hangUp(stdout io.Writer, pid int) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	if err := process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("send SIGHUP to process %d: %w", pid, err)
	}
	fmt.Fprintf(stdout, "Sent SIGHUP to process %d, which has no control socket: its log says whether the configuration is in force.\n", pid)
	return nil
}

func (c *ctl) logLevelCommand() *cobra.Command {
	var endpoint string
	var d time.Duration
	cmd := &cobra.Command{
		Use:   "log-level LEVEL",
		Short: "Change the log level for a limited time",
		Long: `log-level sets the log level of all endpoints, or of those in --endpoint, for a limited time:
debug, info, warn or error. After that, or with "default", the level of the configuration applies
again.`,
		Args: oneArgument("LEVEL"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			var report logLevelReport
			in := logLevelRequest{Endpoint: endpoint, Level: args[0], For: d.String()}
			return c.call(cmd, http.MethodPut, "/v1/log-level", in, &report, func(w io.Writer) {
				fmt.Fprintf(w, "Log level of %s: %s", printable(strings.Join(report.Endpoints, ", ")), report.Level)
				if !report.Until.IsZero() {
					fmt.Fprintf(w, " until %s", report.Until.Local().Format(time.TimeOnly))
				}
				fmt.Fprintln(w, ".")
			})
		}),
	}
	cmd.Flags().StringVar(&endpoint, "endpoint", "", "kind or `name` of the endpoint, or both, as in \"turn turn\" (default: all)")
	cmd.Flags().DurationVar(&d, "for", defaultLogLevelTime, "`duration` until the level is that of the configuration again, at most 24h")
	return cmd
}

func (c *ctl) drainCommand() *cobra.Command {
	var off bool
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Refuse new calls, and let running ones continue",
		Long: `drain makes the relay refuse new calls. Running calls and mail continue, and /readyz of the HTTP
endpoint fails, until "drain --off" or a restart. If the configuration has other relays,
clients are told these, or sent there. "mailturn ctl status" shows how many allocations are
left.`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var report drainReport
			draining := !off
			return c.call(cmd, http.MethodPut, "/v1/draining", drainRequest{&draining}, &report, func(w io.Writer) {
				if report.Draining {
					fmt.Fprintf(w, "New calls are refused. Running allocations: %d.\n", report.Allocations)
					return
				}
				fmt.Fprintln(w, "New calls are accepted.")
			})
		}),
	}
	cmd.Flags().BoolVar(&off, "off", false, "accept new calls again")
	return cmd
}

func (c *ctl) credentialsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "credentials [ACCOUNT]",
		Short: "Issue a credential, as the endpoints would",
		Long: `credentials issues a credential and prints the values that clients get over IMAP. The running
relay counts it towards the account. Without an account, it counts separately.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneArgument("ACCOUNT")(cmd, args)
		},
		RunE: action(func(cmd *cobra.Command, args []string) error {
			var report credentialReport
			var in credentialRequest
			if len(args) > 0 {
				in.Account = args[0]
			}
			return c.call(cmd, http.MethodPost, "/v1/credentials", in, &report, func(w io.Writer) { report.writeTo(w) })
		}),
	}
}
