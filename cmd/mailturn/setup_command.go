package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/provision"
	"github.com/mailturn/mailturn/framework/listen"
)

// setupFlags are the flags of the command.
type setupFlags struct {
	options            provision.Options
	relayIP, relayBind []string
	dryRun, yes, undo  bool
}

func newSetupCommand() *cobra.Command {
	var flags setupFlags
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Configure mailturn for the mail server of this machine",
		Long: `setup looks at this machine: its names and addresses, Dovecot, Postfix, certificates, firewall, and
other TURN servers. It says what it has found, proposes a configuration, and explains it. It shows
every change as a diff, and asks. Without a terminal, it asks nothing, and changes something only
with --yes.

Dovecot first gets an additional internal port, and setup tests mailturn against it. The IMAP ports
are switched last: mailturn takes over Dovecot's listening sockets, so that no connection is refused,
and Dovecot is reloaded. Dovecot 2.3 keeps existing connections; 2.4 closes them, and clients connect
again. If a step fails or is interrupted, setup undoes what it has done so far.

  mailturn setup --dry-run     show what would be done
  mailturn setup               do it
  mailturn setup --undo        put everything back

setup supports Dovecot 2.3 and 2.4 and chatmail relays. For another IMAP server, move it to another
port first, and name that with --upstream.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			return action(func(cmd *cobra.Command, _ []string) error { return runSetup(cmd, flags) })(cmd, args)
		},
	}
	o := &flags.options
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "show what would be done, and change nothing")
	cmd.Flags().BoolVarP(&flags.yes, "yes", "y", false, "make the changes without asking")
	cmd.Flags().BoolVar(&flags.undo, "undo", false, "put everything back as it was before setup")
	cmd.Flags().StringVar(&o.Hostname, "hostname", "", "`name` by which clients reach this server (default: the first of its names that resolves to this machine)")
	cmd.Flags().StringSliceVar(&flags.relayIP, "relay-ip", nil, "public `address` of this machine, one of each family (default: those that DNS has for the name)")
	cmd.Flags().StringSliceVar(&flags.relayBind, "relay-bind", nil, "behind a NAT, the machine's own `address` for each --relay-ip")
	cmd.Flags().StringVar(&o.Cert, "cert", "", "`file` with the certificate chain (default: a certificate for the name that is on this machine)")
	cmd.Flags().StringVar(&o.Key, "key", "", "`file` with the private key")
	cmd.Flags().StringVar(&o.Email, "email", "", "`address` for the account at a certificate authority, if mailturn is to obtain the certificate")
	cmd.Flags().BoolVar(&o.AgreeTerms, "agree-to-terms", false, "agree to the terms of the certificate authority")
	cmd.Flags().StringVar(&o.Directory, "acme-directory", "", "`URL` of the certificate authority (default: Let's Encrypt)")
	cmd.Flags().StringVar(&o.CAFile, "acme-ca", "", "PEM `file` of roots to trust for --acme-directory, for a private authority")
	cmd.Flags().StringVar(&o.Upstream, "upstream", "", "`address` of an IMAP server other than this machine's Dovecot: tcp://HOST:PORT or tls://HOST:PORT")
	cmd.Flags().BoolVar(&o.Overwrite, "overwrite", false, "replace an existing configuration of mailturn")
	cmd.MarkFlagsRequiredTogether("cert", "key")
	return cmd
}

// check parses the flags that cobra does not.
func (f *setupFlags) check() error {
	if f.dryRun && (f.undo || f.yes) {
		return errors.New("--dry-run cannot be combined with --undo or --yes")
	}
	for _, list := range []struct {
		name string
		from []string
		to   *[]netip.Addr
	}{{"relay-ip", f.relayIP, &f.options.RelayIP}, {"relay-bind", f.relayBind, &f.options.RelayBind}} {
		for _, text := range list.from {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return fmt.Errorf("--%s: %q is no IP address", list.name, text)
			}
			*list.to = append(*list.to, addr.Unmap())
		}
	}
	if len(f.options.RelayBind) > 0 && len(f.options.RelayBind) != len(f.options.RelayIP) {
		return errors.New("--relay-bind: want one for each --relay-ip")
	}
	if f.options.Email != "" && !isMailAddress(f.options.Email) {
		return fmt.Errorf("--email: %q is no mail address", f.options.Email)
	}
	if f.options.Upstream == "" {
		return nil
	}
	var address listen.Addr
	if err := address.UnmarshalText([]byte(f.options.Upstream)); err != nil {
		return fmt.Errorf("--upstream: %w", err)
	}
	if !slices.Contains([]string{"tcp", "tls", "starttls"}, address.Scheme) || address.Unspecified() || address.Port == 0 {
		return fmt.Errorf("--upstream: want tcp://HOST:PORT, tls://HOST:PORT or starttls://HOST:PORT, got %q", f.options.Upstream)
	}
	return nil
}

func runSetup(cmd *cobra.Command, flags setupFlags) error {
	if os.Geteuid() != 0 {
		return errors.New("setup reads keys and changes services: run it as root, for example with sudo")
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	for _, path := range []*string{&flags.options.Cert, &flags.options.Key, &flags.options.CAFile} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return err
			}
		}
	}
	// A terminal that is closed ends setup as Ctrl-C does: what was done is taken back. A pipe that nobody reads any more must not
	// end it on the way.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)

	c := &setupCommand{cmd, flags, provision.System(program, lookUp)}
	if flags.undo {
		out := cmd.OutOrStdout()
		if err := c.machine.Undo(ctx, func(what string) { fmt.Fprintln(out, what) }); err != nil {
			return err
		}
		fmt.Fprintln(out, "Everything is as it was before setup.")
		return nil
	}
	return c.run(ctx)
}

// A setupCommand is one that runs.
type setupCommand struct {
	cmd     *cobra.Command
	flags   setupFlags
	machine *provision.Machine
}

// run looks, plans, asks, and applies.
func (c *setupCommand) run(ctx context.Context) error {
	out, stderr := c.cmd.OutOrStdout(), c.cmd.ErrOrStderr()
	if done, err := c.alreadyDone(); done || err != nil {
		return err
	}
	facts, err := c.machine.Look(ctx, c.flags.options)
	if err != nil {
		return err
	}
	if err := facts.WriteFound(out); err != nil {
		return err
	}
	plan := facts.Plan(c.machine, c.flags.options)
	if plan.NeedsAuthority && len(plan.Problems) == 1 && c.asks() {
		if err := c.askForAuthority(ctx, plan); err != nil {
			return err
		}
		plan = facts.Plan(c.machine, c.flags.options)
	}
	fmt.Fprintln(out)
	if err := plan.WritePlan(out); err != nil {
		return err
	}
	if len(plan.Problems) > 0 {
		return errors.Join(plan.WriteProblems(stderr), errReported)
	}
	switch {
	case c.flags.dryRun:
		return nil
	case c.flags.yes:
	case !c.asks():
		_, err := fmt.Fprintln(out, "\nNothing has been changed. To make the changes, add --yes.")
		return err
	default:
		answer, err := c.ask(ctx, "\nMake these changes? [y/N] ")
		if err != nil {
			return err
		}
		if !agrees(answer) {
			_, err := fmt.Fprintln(out, "Nothing has been changed.")
			return err
		}
	}
	fmt.Fprintln(out)
	if err := plan.Apply(ctx, c.machine, func(what string) { fmt.Fprintln(out, what) }); err != nil {
		return err
	}
	return c.probe(ctx, plan)
}

// alreadyDone says what is to say on a machine that has been set up. It returns an error if that was interrupted.
func (c *setupCommand) alreadyDone() (bool, error) {
	journal, err := c.machine.ReadJournal()
	switch {
	case err != nil || journal == nil:
		return false, err
	case !journal.Done:
		return false, errors.New("an earlier setup is still running, or was interrupted: mailturn setup --undo undoes what it has done so far")
	}
	changed, err := journal.Changed(c.machine)
	if err != nil {
		return false, err
	}
	out := c.cmd.OutOrStdout()
	fmt.Fprintf(out, "This machine was set up on %s, as %s. Nothing is left to do.\n", journal.Started.Local().Format(time.DateOnly), journal.Hostname)
	for _, path := range changed {
		fmt.Fprintf(out, "%s has been changed since. setup leaves it as it is.\n", path)
	}
	fmt.Fprintf(out, "To change something, edit %s and run systemctl reload mailturn. mailturn setup --undo puts everything back.\n", provision.ConfigFile)
	return true, nil
}

// asks reports whether there is somebody to ask.
func (c *setupCommand) asks() bool {
	stdin, ok := c.cmd.InOrStdin().(*os.File)
	return ok && term.IsTerminal(int(stdin.Fd())) && !c.flags.yes && !c.flags.dryRun
}

// ask returns a line of the terminal.
func (c *setupCommand) ask(ctx context.Context, question string) (string, error) {
	fmt.Fprint(c.cmd.OutOrStdout(), question)
	type line struct {
		text string
		err  error
	}
	lines := make(chan line, 1)
	go func() { // which a terminal keeps until the process ends, if it is interrupted
		text, err := bufio.NewReader(c.cmd.InOrStdin()).ReadString('\n')
		lines <- line{strings.TrimSpace(text), err}
	}()
	select {
	case <-ctx.Done():
		return "", errors.New("interrupted; nothing has been changed")
	case l := <-lines:
		if errors.Is(l.err, io.EOF) {
			l.err = nil
		}
		return l.text, l.err
	}
}

// agrees reports whether an answer is yes.
func agrees(answer string) bool {
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(answer))
}

// askForAuthority asks for what a certificate authority wants to know.
func (c *setupCommand) askForAuthority(ctx context.Context, plan *provision.Plan) error {
	out := c.cmd.OutOrStdout()
	fmt.Fprintf(out, "\n%s\nmailturn can obtain one from %s.\n", plan.Problems[0].Text, plan.Authority)
	suggestion := cmp.Or(c.flags.options.Email, "postmaster@"+plan.Hostname)
	for c.flags.options.Email = ""; c.flags.options.Email == ""; {
		email, err := c.ask(ctx, fmt.Sprintf("Address for the account there [%s]: ", suggestion))
		if err != nil {
			return err
		}
		if email = cmp.Or(email, suggestion); !isMailAddress(email) {
			fmt.Fprintf(out, "%q is no mail address.\n", email)
			continue
		}
		c.flags.options.Email = email
	}
	answer, err := c.ask(ctx, "Do you agree to its terms of service? [y/N] ")
	c.flags.options.AgreeTerms = agrees(answer)
	return err
}

// isMailAddress reports whether a text is an address and nothing else.
func isMailAddress(text string) bool {
	addr, err := mail.ParseAddress(text)
	return err == nil && addr.Address == text
}

// probe asks the relay, by the name that clients are told, and says what else to do.
func (c *setupCommand) probe(ctx context.Context, plan *provision.Plan) error {
	out := c.cmd.OutOrStdout()
	target := fmt.Sprintf("turn:%s:%d", plan.Hostname, plan.Ports.TURN)
	fmt.Fprintf(out, "\nmailturn probe %s\n", target)
	output, err := c.machine.Run(ctx, c.machine.Mailturn, "probe", "--quick", "--secret-file", provision.SecretFile, target)
	fmt.Fprintln(out, strings.TrimRight(output, "\n"))
	if err != nil {
		fmt.Fprintln(out, "The probe has found a problem, or the relay cannot be reached from this machine by its public address.")
	}
	fmt.Fprintf(out, "\nDone. Now run this on a machine in another network, with an account of this server:\n\n  mailturn probe imaps://USER@%s\n", plan.Hostname)
	return nil
}
