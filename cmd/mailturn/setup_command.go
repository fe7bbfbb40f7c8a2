package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/provision"
	"github.com/mailturn/mailturn/framework/listen"
)

// setupFlags are the flags of the command.
type setupFlags struct {
	options            provision.Options
	relayIP, relayBind []string
	dryRun             bool
}

func newSetupCommand() *cobra.Command {
	var flags setupFlags
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Configure mailturn for the mail server of this machine",
		Long: `setup looks at this machine: its names and addresses, Dovecot, Postfix, certificates, firewall, and
other TURN servers. It says what it has found, proposes a configuration with reasons, and shows
every change as a diff.

  mailturn setup --dry-run

It knows Dovecot 2.3 and 2.4 and chatmail relays. For another IMAP server, move that to another port
first, and name it with --upstream.`,
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
	cmd.Flags().StringVar(&o.Hostname, "hostname", "", "`name` by which clients reach this server (default: the first of its names that DNS leads here)")
	cmd.Flags().StringSliceVar(&flags.relayIP, "relay-ip", nil, "public `address` of this machine, one of each family (default: those that DNS has for the name)")
	cmd.Flags().StringSliceVar(&flags.relayBind, "relay-bind", nil, "behind a NAT, the machine's own `address` for each --relay-ip")
	cmd.Flags().StringVar(&o.Cert, "cert", "", "`file` with the certificate chain (default: the certificate for the name that is found)")
	cmd.Flags().StringVar(&o.Key, "key", "", "`file` with the private key")
	cmd.Flags().StringVar(&o.Email, "email", "", "`address` for the account at a certificate authority, if mailturn is to obtain the certificate")
	cmd.Flags().BoolVar(&o.AgreeTerms, "agree-to-terms", false, "agree to the terms of the certificate authority")
	cmd.Flags().StringVar(&o.Directory, "acme-directory", "", "`URL` of the certificate authority (default: Let's Encrypt)")
	cmd.Flags().StringVar(&o.CAFile, "acme-ca", "", "PEM `file` of roots to trust for that URL, for a private authority")
	cmd.Flags().StringVar(&o.Upstream, "upstream", "", "`address` of another IMAP server than this machine's Dovecot: tcp://HOST:PORT or tls://HOST:PORT")
	cmd.Flags().BoolVar(&o.Overwrite, "overwrite", false, "replace an existing configuration of mailturn")
	cmd.MarkFlagsRequiredTogether("cert", "key")
	return cmd
}

// check parses the flags that cobra does not.
func (f *setupFlags) check() error {
	if !f.dryRun {
		return errors.New("setup shows the changes and makes none yet: add --dry-run")
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
	// A closed terminal ends it as Ctrl-C does.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	for _, path := range []*string{&flags.options.Cert, &flags.options.Key, &flags.options.CAFile} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return err
			}
		}
	}
	machine := provision.System(program, lookUp)
	facts, err := machine.Look(ctx, flags.options)
	if err != nil {
		return err
	}
	plan := facts.Plan(machine, flags.options)
	if err := errors.Join(facts.WriteFound(cmd.OutOrStdout()), plan.WritePlan(cmd.OutOrStdout(), machine)); err != nil {
		return err
	}
	if len(plan.Problems) > 0 {
		return errors.Join(plan.WriteProblems(cmd.ErrOrStderr()), errReported)
	}
	return nil
}
