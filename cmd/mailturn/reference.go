package main

import (
	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/endpoint/credsock"
	"github.com/mailturn/mailturn/endpoint/dict"
	"github.com/mailturn/mailturn/endpoint/http"
	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/config"
)

func newReferenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reference",
		Short: "Print every configuration attribute with its type, default and meaning",
		Args:  noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			return config.Reference(cmd.OutOrStdout(), sections()...)
		}),
	}
}

// sections are all parts of a configuration file.
func sections() []config.Section {
	return []config.Section{
		{Doc: `The top level of the file. A duration is a number of seconds or a string such as "90s", "24h" or "5d".`, Target: config.File{}},
		{Header: `endpoint "imap" NAME`, Doc: "IMAP in front of an existing mail server, or with an embedded one.", Target: imap.Schema{}},
		{Header: `endpoint "turn" NAME`, Doc: "The relay for calls.", Target: turn.Schema{}},
		{Header: `endpoint "credsock" NAME`, Doc: "A Unix socket that sends a user name and a password to every client, as that of chatmail-turn does.", Target: credsock.Schema{}},
		{Header: `endpoint "dict" NAME`, Doc: "A dictionary for Dovecot's METADATA, which answers Delta Chat's entries.", Target: dict.Schema{}},
		{Header: `endpoint "http" NAME`, Doc: "Credentials over the TURN REST API (/turn) and as ICE servers (/ice), Prometheus metrics (/metrics), and health checks (/healthz: the process runs; /readyz: every endpoint can serve, and the process is neither draining nor stopping).", Target: http.Schema{}},
	}
}
