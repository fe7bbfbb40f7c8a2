// Package manual writes man pages: of commands, from their help, and of the configuration, from its reference.
package manual

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mailturn/mailturn/framework/config"
)

// A Page is a man page.
type Page struct {
	Name    string // without the section, such as mailturn-run
	Section int    // of the manual: 1 for commands, 5 for file formats
	Text    string
}

// File returns the name of the page's file.
func (p Page) File() string { return fmt.Sprintf("%s.%d", p.Name, p.Section) }

// About is the information in the footer of every page.
type About struct {
	Version string // of the program
	Date    string // of this version, such as 2026-11-30; empty if it is not known
}

// begin returns a page with its header and its first section, which whatis(1) reads.
func (a About) begin(name string, section int, manual, summary string) *roff {
	r := new(roff)
	r.macro("TH", strings.ToUpper(name), fmt.Sprint(section), a.Date, "mailturn "+a.Version, manual)
	r.line(".ad l") // a ragged margin is better than gaps between words
	r.macro("SH", "NAME")
	r.line(escape(name) + ` \- ` + escape(summary))
	return r
}

// Commands returns the pages of root and of each of its commands. Commands below those are on the page of their parent. Hidden
// commands and the help command have no page.
func Commands(root *cobra.Command, configuration string, about About) []Page {
	pages := []Page{{root.Name(), 1, ""}}
	r := about.begin(root.Name(), 1, "User Commands", root.Short)
	r.macro("SH", "SYNOPSIS")
	r.line(bold(root.Name()) + " " + italic("command") + " [" + italic("flags") + "]")
	r.macro("SH", "DESCRIPTION")
	r.text(root.Long)
	r.macro("SH", "COMMANDS")
	for _, cmd := range shown(root) {
		page := about.command(cmd)
		pages = append(pages, page)
		r.item(bold(page.Name)+"(1)", cmd.Short)
	}
	r.macro("PP")
	r.line("Every command has " + bold("--help") + ".")
	r.flags(root.NonInheritedFlags())
	r.macro("SH", "EXIT STATUS")
	r.item("0", "The command succeeded.")
	r.item("1", "The command failed.")
	r.item("2", "The command line is wrong.")
	r.line(".PP\nThe pages of commands with further statuses list them.")
	r.macro("SH", "SEE ALSO")
	r.line(bold(configuration) + "(5)")
	pages[0].Text = r.String()
	return pages
}

// shown returns the commands in the help of cmd, except help itself.
func shown(cmd *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool { return !c.IsAvailableCommand() || c.Name() == "help" })
}

// command returns the page of a command.
func (a About) command(cmd *cobra.Command) Page {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	r := a.begin(name, 1, "User Commands", cmd.Short)
	r.macro("SH", "SYNOPSIS")
	r.line(bold(cmd.UseLine()))
	r.macro("SH", "DESCRIPTION")
	r.text(longText(cmd))
	r.flags(cmd.NonInheritedFlags())
	if inner := shown(cmd); len(inner) > 0 {
		r.macro("SH", "COMMANDS")
		for _, inner := range inner {
			r.nested(inner)
		}
	}
	r.macro("SH", "SEE ALSO")
	r.line(bold(cmd.Root().Name()) + "(1)")
	return Page{name, 1, r.String()}
}

// nested describes a command on the page of its parent.
func (r *roff) nested(cmd *cobra.Command) {
	r.macro("SS", cmd.UseLine())
	r.text(longText(cmd))
	r.flagItems(cmd.NonInheritedFlags())
	for _, inner := range shown(cmd) {
		r.nested(inner)
	}
}

// longText returns the description of a command.
func longText(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

// flags writes the section about flags, if there are any.
func (r *roff) flags(flags *pflag.FlagSet) {
	if flags.HasAvailableFlags() {
		r.macro("SH", "OPTIONS")
		r.flagItems(flags)
	}
}

func (r *roff) flagItems(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		title := bold("--" + f.Name)
		if f.Shorthand != "" {
			title = bold("-"+f.Shorthand) + ", " + title
		}
		if value != "" {
			title += " " + italic(value)
		}
		if !slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		r.item(title, usage)
	})
}

// Configuration returns the page of the configuration file. intro is the text before the attributes.
func Configuration(name, summary, intro string, sections []config.Section, about About) Page {
	r := about.begin(name, 5, "File Formats", summary)
	r.macro("SH", "DESCRIPTION")
	r.text(intro)
	for _, section := range sections {
		b := section.Reference()
		if b.Header == "" {
			r.macro("SH", "TOP LEVEL")
		} else {
			r.macro("SH", b.Header)
		}
		r.content(b)
	}
	r.macro("SH", "SEE ALSO")
	r.line(bold("mailturn") + "(1), " + bold("mailturn-check-config") + "(1)")
	return Page{name, 5, r.String()}
}

// content writes the content of a block.
func (r *roff) content(b config.BlockReference) {
	r.text(b.Doc)
	for _, a := range b.Attributes {
		r.item(bold(a.Name)+" ("+escape(a.Value)+")", a.Doc)
	}
	for _, inner := range b.Blocks {
		r.macro("TP")
		r.line(bold(inner.Header) + " { ... }")
		r.macro("RS")
		r.content(inner)
		r.macro("RE")
	}
}
