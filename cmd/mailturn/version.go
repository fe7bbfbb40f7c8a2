package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of the program and of what it is built on",
		Args:  cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return fmt.Errorf("the program was built without module support and does not know its version")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "mailturn %s\n%s %s/%s\n", version(info), info.GoVersion, runtime.GOOS, runtime.GOARCH)
			for _, dep := range info.Deps {
				switch dep.Path {
				case "github.com/pion/turn/v4", "github.com/pion/stun/v3", "github.com/emersion/go-imap/v2":
					fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", dep.Path, dep.Version)
				}
			}
			return nil
		}),
	}
}

// version returns the module's version, or the commit for a build from a checkout.
func version(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	switch {
	case revision == "":
		return "(devel)"
	case settings["vcs.modified"] == "true":
		return revision + " (modified)"
	default:
		return revision
	}
}
