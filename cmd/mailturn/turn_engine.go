package main

import (
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/endpoint/turn/pion"
	"github.com/mailturn/mailturn/framework/module"
)

// turnEngineCommand is the name of the command that endpoint/turn/pion starts.
const turnEngineCommand = "turn-engine"

// newTurnEngineCommand returns the internal command of the process in which pion serves an endpoint "turn".
func newTurnEngineCommand() *cobra.Command {
	return &cobra.Command{
		Use:    turnEngineCommand,
		Short:  `Serve an endpoint "turn" with engine = "pion", as mailturn run asks for on standard input`,
		Hidden: true,
		Args:   noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			return pion.Main(cmd.InOrStdin(), cmd.OutOrStdout())
		}),
	}
}

// newRelay returns the endpoint of c with the engine that c names.
func newRelay(c turn.Config, logger *slog.Logger) (module.Reloader[turn.Config], error) {
	if c.Engine != turn.Pion {
		return turn.New(c, logger)
	}
	program, err := thisProgram()
	if err != nil {
		return nil, err
	}
	return pion.New(c, []string{program, turnEngineCommand}, logger)
}

// thisProgram returns the path of this program's file: if the system has one, a path that stays valid after an upgrade has replaced
// the file.
func thisProgram() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}
