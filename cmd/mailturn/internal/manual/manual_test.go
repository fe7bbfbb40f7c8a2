package manual

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/framework/config"
)

func TestText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"paragraphs", "one\ntwo\n\nthree\n", ".PP\none\ntwo\n.PP\nthree\n"},
		{"columns stay", "Serve:   a\nCheck:   b\n\nand so on", ".PP\n.nf\nServe:   a\nCheck:   b\n.fi\n.PP\nand so on\n"},
		{"a table after its title", "Exit status:\n  0  fine", ".PP\nExit status:\n.nf\n  0  fine\n.fi\n"},
		{"a list", "It warns of\n\n  - files\n    of others,\n  - names.\n\nEnd.", ".PP\nIt warns of\n.IP \\(bu 2\nfiles\nof others,\n.IP \\(bu 2\nnames.\n.PP\nEnd.\n"},
		{"what is typed", "\trm -r '~/a\\b'", ".PP\n.nf\n    rm \\-r \\(aq\\(ti/a\\eb\\(aq\n.fi\n"},
		{"no macro", ".ci/run\n'quoted'", ".PP\n\\&.ci/run\n\\(aqquoted\\(aq\n"},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r roff
			r.text(tt.text)
			if diff := cmp.Diff(tt.want, r.String()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "tool", Short: "A tool", Long: "tool does it."}
	build := &cobra.Command{Use: "make", Short: "Make one", Run: run}
	build.Flags().IntP("number", "n", 3, "how `many`")
	build.Flags().Bool("old", false, "as before")
	if err := build.Flags().MarkHidden("old"); err != nil {
		t.Fatal(err)
	}
	deep := &cobra.Command{Use: "deep", Short: "Go below"}
	deep.AddCommand(&cobra.Command{Use: "deeper FILE", Short: "Go further below", Run: run})
	root.AddCommand(build, deep, &cobra.Command{Use: "secret", Hidden: true, Run: run})
	root.InitDefaultHelpCmd()

	var files []string
	text := ""
	for _, page := range Commands(root, "tool.conf", About{Version: "v1", Date: "2026-11-30"}) {
		files = append(files, page.File())
		text += page.Text
	}
	if diff := cmp.Diff([]string{"tool.1", "tool-deep.1", "tool-make.1"}, files); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, want := range []string{
		`.TH "TOOL" "1" "2026\-11\-30" "mailturn v1" "User Commands"`,
		"tool\\-make \\- Make one\n",
		".TP\n\\fB\\-n\\fR, \\fB\\-\\-number\\fR \\fImany\\fR\nhow many (default 3)\n",
		".SS \"tool deep deeper FILE\"\n.PP\nGo further below.\n",
		"\\fBtool.conf\\fR(5)\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, hidden := range []string{"old", "secret"} {
		if strings.Contains(text, hidden) {
			t.Errorf("the pages have %s, which is hidden", hidden)
		}
	}
}

func TestConfiguration(t *testing.T) {
	page := Configuration("tool.conf", "configuration of a tool", "Intro.", []config.Section{
		{Doc: "At the top.", Target: config.File{}},
		{Header: `endpoint "x" NAME`, Doc: "An endpoint.", Target: config.TLS{}},
	}, About{})
	for _, want := range []string{
		".SH \"TOP LEVEL\"\n.PP\nAt the top.\n",
		"\\fBformat\\fR (string, default text)\n",
		"\\fBlog\\fR { ... }\n.RS\n",
		".SH \"endpoint \\(dqx\\(dq NAME\"\n",
	} {
		if !strings.Contains(page.Text, want) {
			t.Errorf("no %q in\n%s", want, page.Text)
		}
	}
}
