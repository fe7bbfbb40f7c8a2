package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReferenceMarkdown(t *testing.T) {
	shared := BlockReference{Header: "shared", Doc: "Shared.", Attributes: []AttributeReference{{Name: "size", Value: "number"}}}
	realm := BlockReference{Header: `realm "REALM"`, Attributes: []AttributeReference{{Name: "users", Value: "string"}}, Blocks: []BlockReference{shared}}
	again := shared
	again.Doc = "Documented elsewhere."
	var got strings.Builder
	err := ReferenceMarkdown(&got,
		BlockReference{Doc: "Everything.", Attributes: []AttributeReference{{Name: "a_name", Value: "string, default $HOME_DIR", Doc: "Like other_name: *.a|b <c> [d]."}}},
		BlockReference{Header: `endpoint "door" NAME`, Blocks: []BlockReference{realm, again}},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := "\n## The top level\n\nEverything.\n\n" +
		"| attribute | value | meaning |\n| --- | --- | --- |\n" +
		"| `a_name` | string, default `$HOME_DIR` | Like `other_name`: \\*.a\\|b \\<c> \\[d]. |\n" +
		"\n## endpoint \"door\" NAME\n\n" +
		"\n### realm \"REALM\" in door\n\n" +
		"| attribute | value | meaning |\n| --- | --- | --- |\n| `users` | string |  |\n" +
		"\n### shared in realm in door\n\nShared.\n\n" +
		"| attribute | value | meaning |\n| --- | --- | --- |\n| `size` | number |  |\n" +
		"\nThe block `shared` is the same as [shared in realm in door](#shared-in-realm-in-door).\n"
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestFragment(t *testing.T) {
	if got := fragment(`user_realm "REALM" in turn`); got != "user_realm-realm-in-turn" {
		t.Error(got)
	}
}
