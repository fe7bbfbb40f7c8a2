package config_test

import (
	"strings"
	"testing"

	"github.com/mailturn/mailturn/framework/config"
)

// The schema for TestMisplaced.
type (
	misplacedPeers struct {
		Allow config.Value[[]string] `hcl:"allow"`
	}
	misplacedTURN struct {
		Drain  config.Value[string] `hcl:"drain_timeout"`
		Listen config.Value[string] `hcl:"listen"`
		Peers  *misplacedPeers      `hcl:"peers,block"`
	}
	misplacedIMAP struct {
		Listen config.Value[string] `hcl:"listen"`
	}
)

// TestMisplaced checks names that belong elsewhere, one that belongs nowhere, and one in the right place but in the wrong form.
func TestMisplaced(t *testing.T) {
	sections := []config.Section{
		{Target: config.File{}},
		{Header: `endpoint "turn" NAME`, Target: misplacedTURN{}},
		{Header: `endpoint "imap" NAME`, Target: &misplacedIMAP{}},
	}
	const general = "mailturn reference shows which block each name belongs to"
	for _, tt := range []struct{ name, text, want string }{
		{"attribute of an endpoint", `drain_timeout = "5s"`, `hint: drain_timeout belongs in endpoint "turn" NAME`},
		{"attribute of two endpoints", `listen = "x"`, `hint: listen belongs in endpoint "turn" NAME or in endpoint "imap" NAME`},
		{"attribute of a block", `allow = []`, `hint: allow belongs in peers { … } in endpoint "turn" NAME`},
		{"block of an endpoint", `peers {}`, `hint: peers belongs in endpoint "turn" NAME`},
		{"attribute of a block at the top", `level = "info"`, `hint: level belongs in log { … } at the top level of the file`},
		{"of nothing", `quota = 5`, "hint: " + general},
		{"block as an attribute", `tls = "x"`, `Did you mean to define a block of type "tls"?`},
		{"directive", "hostname a\ndrain_timeout 5s", "hint: drain_timeout belongs in endpoint.turn NAME"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file, diags := config.Parse("maddy.conf", []byte(tt.text+"\n"))
			file.Misplaced(diags, sections...)
			var got strings.Builder
			if err := file.WriteDiagnostics(&got, diags); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got.String(), tt.want) || strings.Count(got.String(), "belongs ") > 1 {
				t.Errorf("got\n%swant %s", got.String(), tt.want)
			}
		})
	}
}
