// Command mailturn lets the users of a mail server call each other: it tells IMAP clients about a TURN relay, and is that relay.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	exitFailure  = 1
	exitUsage    = 2
	exitWarnings = 3 // of check-config --strict
)

func main() {
	os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit status: 0, 1 when the command failed, 2 when it was called wrongly, 3
// when check-config --strict has warned.
func execute(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	refuseUnknown(root)
	cmd, err := root.ExecuteC()
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return exitFailure
	case errors.Is(err, errWarned):
		return exitWarnings
	}
	fmt.Fprintf(stderr, "mailturn: %s\n", printableLines(err.Error()))
	if failed, ok := errors.AsType[commandError](err); ok && failed.err != nil {
		return exitFailure
	}
	fmt.Fprintf(stderr, "See '%s --help'.\n", cmd.CommandPath())
	return exitUsage
}

// refuseUnknown makes unknown commands of groups, and unknown topics of help, usage errors. cobra does that only for commands at the
// top, and otherwise prints the help. Call it after SetOut, because cobra's own commands remember where to write.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch {
		case cmd.Name() == "help":
			cmd.Args = knownCommand
		case cmd.HasSubCommands() && !cmd.Runnable():
			cmd.Args = cobra.NoArgs // without RunE, cobra does not look at it
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

// knownCommand returns an error unless args are the names of a command.
func knownCommand(cmd *cobra.Command, args []string) error {
	found, rest, err := cmd.Root().Find(args)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("unknown command %q for %q", rest[0], found.CommandPath())
	}
	return err
}

// errReported ends a command that has already written what went wrong to standard error.
var errReported = errors.New("already reported")

// errWarned ends a command that has written warnings to standard error, and was asked to treat them as a failure.
var errWarned = errors.New("there are warnings")

// commandError is an error of a command that was called correctly. Every other error is a usage error: cobra's own have no type.
type commandError struct{ err error }

func (e commandError) Error() string { return e.err.Error() }
func (e commandError) Unwrap() error { return e.err }

// action returns a cobra RunE for a function whose errors are not usage errors.
func action(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := run(cmd, args); err != nil {
			return commandError{err}
		}
		return nil
	}
}

// noArguments and oneArgument are cobra's NoArgs and ExactArgs(1), with errors that say what is expected.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no arguments, got %q", cmd.Name(), args[0])
	}
	return nil
}

func oneArgument(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return fmt.Errorf("%s is missing", name)
		case len(args) > 1:
			return fmt.Errorf("%s takes one %s, also got %q", cmd.Name(), name, args[1])
		}
		return nil
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "mailturn",
		Short: "A TURN relay for the users of a mail server",
		Long: `mailturn lets the users of a mail server call each other. In front of an IMAP server, it tells
clients about a TURN relay (RFC 5464 METADATA), and it is that relay (RFC 8656). Both halves
derive credentials from one secret.

Try it on this machine:        mailturn run
Configure a mail server:       mailturn setup
Serve:                         mailturn run --config /etc/mailturn/maddy.conf
Check whether calls connect:   mailturn probe imaps://USER@HOST
List all attributes:           mailturn reference`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Version:           buildInfo().Main.Version,
	}
	root.SetVersionTemplate(versionText())
	root.AddCommand(
		newRunCommand(),
		newSetupCommand(),
		newCheckConfigCommand(),
		newCredentialsCommand(),
		newProbeCommand(),
		newCtlCommand(),
		newHashPasswordCommand(),
		newUpgradeCommand(),
		newReferenceCommand(),
		newExportCommand(),
		newImportCommand(),
		newVersionCommand(),
		newTurnEngineCommand(),
		newKernelPathCommand(),
		newTakeoverCommand(),
		newManpagesCommand(),
	)
	return root
}
