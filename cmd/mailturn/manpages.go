package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/manual"
)

// newManpagesCommand is for whoever packages mailturn.
func newManpagesCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "manpages DIRECTORY",
		Short:  "Write the man pages of every command and of the configuration into a directory",
		Hidden: true,
		Args:   oneArgument("DIRECTORY"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			for _, page := range manpages(cmd.Root()) {
				if err := os.WriteFile(filepath.Join(args[0], page.File()), []byte(page.Text), 0o644); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

const (
	configurationPage  = "mailturn.conf"
	configurationIntro = `The system service reads its configuration from /etc/mailturn/maddy.conf. The file is in HCL, as below, or in maddy's
directives, which have the same names without equals signs. An example with comments is maddy.conf.example, which comes with
mailturn.

file("PATH") is the content of a file, for secrets, and env("NAME") that of a variable of the environment. mailturn check-config
finds mistakes.`
)

// manpages returns the man pages.
func manpages(root *cobra.Command) []manual.Page {
	about := manual.About{Version: buildInfo().Main.Version}
	for _, setting := range buildInfo().Settings {
		if setting.Key == "vcs.time" && len(setting.Value) >= len("2006-01-02") {
			about.Date = setting.Value[:len("2006-01-02")]
		}
	}
	return append(manual.Commands(root, configurationPage, about),
		manual.Configuration(configurationPage, "configuration of mailturn", configurationIntro, sections(), about))
}
