package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// changing is the body of an endpoint in TestChanges.
type changing struct {
	Rate   int                  `hcl:"rate" default:"5"`
	TTL    Value[time.Duration] `hcl:"ttl" otherwise:"as long as it takes"`
	Peers  changingPeers        `hcl:"peers,block"`
	Backup *changingPeers       `hcl:"backup,block"`
	Realms []changingRealm      `hcl:"realm,block"`
	Words  Value[[]string]      `hcl:"words"`
	Secret Value[string]        `hcl:"secret" secret:"true"`
}

type changingPeers struct {
	Block
	Allow []string `hcl:"allow"`
}

type changingRealm struct {
	Block
	Name Value[string] `hcl:"name,label"`
	Size int           `hcl:"size" default:"1"`
}

// TestChanges checks that the attributes and blocks that differ are named, and those that mean the same are not.
func TestChanges(t *testing.T) {
	read := func(text string) *File {
		f, diags := Parse("maddy.conf", []byte(text))
		for _, e := range f.Endpoints {
			diags = append(diags, e.Decode(new(changing))...)
		}
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		return f
	}
	const kind = "endpoint \"turn\" \"a\" {\n"
	for _, tt := range []struct {
		name, before, after string
		want                []string
	}{
		{"nothing", kind + "rate = 7\n}", "# a comment\n" + kind + "  rate = 7\n}", nil},
		{"the default, written down", kind + "}", kind + "rate = 5\nwords = []\nrealm \"x\" {}\n}", []string{`endpoint turn "a": realm`, `endpoint turn "a": words`}},
		{"attributes", kind + "rate = 7\n}", kind + "rate = 8\nsecret = \"s3cret\"\n}", []string{`endpoint turn "a": rate`, `endpoint turn "a": secret`}},
		{"zero instead of none", kind + "}", kind + "ttl = \"0s\"\n}", []string{`endpoint turn "a": ttl`}},
		{"in a block", kind + "}", kind + "peers {\nallow = [\"x\"]\n}\n}", []string{`endpoint turn "a": peers.allow`}},
		{"a block is new", kind + "}", kind + "backup {}\n}", []string{`endpoint turn "a": backup`}},
		{"label", kind + "realm \"x\" {}\n}", kind + "realm \"y\" {}\n}", []string{`endpoint turn "a": realm`}},
		{"one of several blocks", kind + "realm \"x\" {}\nrealm \"y\" {}\n}", kind + "realm \"x\" {}\nrealm \"y\" {\nsize = 2\n}\n}", []string{`endpoint turn "a": realm`}},
		{"top level", "hostname = \"a\"\n", "hostname = \"b\"\nlog {\nlevel = \"warn\"\n}", []string{"hostname", "log.level"}},
		{"endpoints", kind + "}", "endpoint \"imap\" \"b\" {}", []string{`endpoint imap "b" (new)`, `endpoint turn "a" (removed)`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, read(tt.before).Changes(read(tt.after))); diff != "" {
				t.Errorf("the names differ from what is wanted:\n%s", diff)
			}
		})
	}
}
