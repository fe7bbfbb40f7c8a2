package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/framework/config"
)

func newCheckConfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check-config FILE",
		Short: "Check a configuration file and print what is wrong or doubtful in it",
		Long: `check-config reads a configuration file as run does, opens no socket and makes no file.
Errors and warnings go to standard error. The exit status is 1 if there are errors.`,
		Args: oneArgument("FILE"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			s, err := load(args[0], "", cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: good: %s.\n", args[0], join(s.parts(), ", "))
			return nil
		}),
	}
}

// load reads a configuration file and writes its diagnostics to stderr. The error is errReported if there are any that
// are errors.
func load(filename, stateDir string, stderr io.Writer) (*setup, error) {
	file, diags := config.Load(filename)
	var s *setup
	if !diags.HasErrors() {
		decoded, decodeDiags := decode(file, stateDir)
		s, diags = decoded, append(diags, decodeDiags...)
	}
	file.Misplaced(diags, sections()...)
	if err := file.WriteDiagnostics(stderr, diags); err != nil {
		return nil, err
	}
	if diags.HasErrors() {
		return nil, errReported
	}
	return s, nil
}
