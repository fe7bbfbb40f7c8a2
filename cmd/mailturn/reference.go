package main

import (
	_ "embed"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/endpoint/credsock"
	"github.com/mailturn/mailturn/endpoint/dict"
	"github.com/mailturn/mailturn/endpoint/http"
	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/config"
)

// referencePage is the beginning of docs/reference.md.
//
//go:embed reference_page.md
var referencePage string

func newReferenceCommand() *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use:   "reference [BLOCK]",
		Short: "Print every configuration attribute with its type, default and meaning",
		Long: `reference prints every configuration attribute with its type, default and meaning. With BLOCK, it
prints only those of an endpoint, such as turn, or of another block, such as acme.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneArgument("BLOCK")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var blocks []config.BlockReference
			for _, s := range sections() {
				blocks = append(blocks, s.Reference())
			}
			if len(args) > 0 {
				found := blocksNamed(blocks, args[0])
				if len(found) == 0 {
					return fmt.Errorf("unknown block %q: want one of %s", args[0], strings.Join(blockNames(blocks), ", "))
				}
				blocks = found
			}
			return action(func(cmd *cobra.Command, _ []string) error {
				out := cmd.OutOrStdout()
				if !markdown {
					return config.Reference(out, blocks...)
				}
				if len(args) == 0 {
					if _, err := io.WriteString(out, referencePage); err != nil {
						return err
					}
				}
				return config.ReferenceMarkdown(out, blocks...)
			})(cmd, args)
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print the page docs/reference.md, or the section of BLOCK")
	return cmd
}

// blocksNamed returns the blocks with a name, at any depth. Those that are the same in several places are returned once.
func blocksNamed(blocks []config.BlockReference, name string) (found []config.BlockReference) {
	add := func(b config.BlockReference) {
		if !slices.ContainsFunc(found, func(other config.BlockReference) bool { return reflect.DeepEqual(other, b) }) {
			found = append(found, b)
		}
	}
	for _, b := range blocks {
		if b.Name() == name {
			add(b)
		}
		for _, inner := range blocksNamed(b.Blocks, name) {
			add(inner)
		}
	}
	return found
}

// blockNames returns the names of the blocks at any depth, each once, in their order.
func blockNames(blocks []config.BlockReference) (names []string) {
	for _, b := range blocks {
		for _, name := range append([]string{b.Name()}, blockNames(b.Blocks)...) {
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
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
