package main

import (
	"context"
	"fmt"
	"io"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/framework/config"
)

func newCheckConfigCommand() *cobra.Command {
	var userName string
	var strict bool
	cmd := &cobra.Command{
		Use:   "check-config FILE",
		Short: "Check a configuration file and print errors and warnings",
		Long: `check-config reads a configuration file as run does; it binds no port and creates no file.
Errors and warnings go to standard error. In addition to what run checks, it warns about

  - files that the user mailturn runs as cannot read (only when called by root),
  - a hostname or turn_server that is not in DNS, or has no address that others can reach,
  - a certificate that lacks a name clients are told,
  - a relay without relay_ip whose detected address others cannot reach,
  - kernel_path = "on" where the kernel or the unit does not allow it, or netfilter has rules of NAT
    (only when called by root).

If everything listens on loopback, only the first applies.

Exit status:
    0  the configuration is valid; there may be warnings
  1  there are errors, or the file cannot be read

  2  the command line is wrong
  3  there are warnings, and --strict was given`,
		Args: oneArgument("FILE"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return checkConfig(cmd.Context(), args[0], userName, strict, cmd.OutOrStdout(), cmd.ErrOrStderr())
		}),
	}
	cmd.Flags().StringVar(&userName, "user", "", "`name` of the user mailturn runs as (default, when called by root: that of mailturn.service)")
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with status 3 if there are warnings")
	return cmd
}

// checkConfig is the command check-config.
func checkConfig(ctx context.Context, filename, userName string, strict bool, stdout, stderr io.Writer) error {
	account, err := accountOf(ctx, userName)
	if err != nil {
		return err
	}
	file, s, diags := read(filename, "")
	if !diags.HasErrors() {
		x := examination{file: file, setup: s, lookup: lookUp, kernel: systemKernelPath()}
		diags = append(diags, x.examine(ctx)...)
	}
	if account != nil {
		diags = append(diags, account.findsWrong(filename, s, diags)...)
	}
	if err := file.WriteDiagnostics(stderr, diags); err != nil {
		return err
	}
	switch {
	case diags.HasErrors():
		return errReported
	case len(diags) == 0:
		fmt.Fprintf(stdout, "%s: OK: %s.\n", filename, join(s.parts(), ", "))
		return nil
	}
	fmt.Fprintf(stdout, "%s: OK, with warnings (%d): %s.\n", filename, len(diags), join(s.parts(), ", "))
	if strict {
		return errWarned
	}
	return nil
}

// load reads a configuration file and writes its diagnostics to stderr. The error is errReported if there are any that
// are errors.
func load(filename, stateDir string, stderr io.Writer) (*setup, error) {
	file, s, diags := read(filename, stateDir)
	if err := file.WriteDiagnostics(stderr, diags); err != nil {
		return nil, err
	}
	if diags.HasErrors() {
		return nil, errReported
	}
	return s, nil
}

// read reads and decodes a configuration file. The setup is nil if the file cannot be parsed.
func read(filename, stateDir string) (file *config.File, s *setup, diags hcl.Diagnostics) {
	file, diags = config.Load(filename)
	if !diags.HasErrors() {
		decoded, decodeDiags := decode(file, stateDir)
		s, diags = decoded, append(diags, decodeDiags...)
	}
	file.Misplaced(diags, sections()...)
	return file, s, diags
}
