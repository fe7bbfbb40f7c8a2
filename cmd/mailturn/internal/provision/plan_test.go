package provision

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what the plans say into testdata")

// parseOptions parses the first line of a scenario, which has flags as the command has them.
func parseOptions(t *testing.T, comment []byte) (o Options) {
	t.Helper()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.StringVar(&o.Hostname, "hostname", "", "")
	flags.StringVar(&o.Cert, "cert", "", "")
	flags.StringVar(&o.Key, "key", "", "")
	flags.StringVar(&o.Email, "email", "", "")
	flags.StringVar(&o.Upstream, "upstream", "", "")
	flags.BoolVar(&o.AgreeTerms, "agree-to-terms", false, "")
	flags.BoolVar(&o.Overwrite, "overwrite", false, "")
	line, _, _ := strings.Cut(string(comment), "\n")
	if err := flags.Parse(strings.Fields(strings.TrimPrefix(line, "setup"))); err != nil {
		t.Fatal(err)
	}
	return o
}

// planText returns what the command shows of a machine: what it has found, the plan, and problems.
func planText(t *testing.T, s *scenario, o Options) (text string, plan *Plan) {
	t.Helper()
	facts, err := s.Look(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	plan = facts.Plan(s.Machine, o)
	var b strings.Builder
	for _, err := range []error{facts.WriteFound(&b), plan.WritePlan(&b), plan.WriteProblems(&b)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return strings.ReplaceAll(b.String(), s.Root, ""), plan
}

// changed returns the base with the parts of a scenario in the place of its own. A part without text takes one away.
func changed(base, scenario *txtar.Archive) *txtar.Archive {
	whole := &txtar.Archive{}
	for _, archive := range []*txtar.Archive{base, scenario} {
		for _, file := range archive.Files {
			whole.Files = slices.DeleteFunc(whole.Files, func(f txtar.File) bool { return f.Name == file.Name })
			if len(file.Data) > 0 || archive == base {
				whole.Files = append(whole.Files, file)
			}
		}
	}
	return whole
}

// TestPlan compares what setup says of each machine in testdata with what is wanted.
func TestPlan(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	base, err := txtar.ParseFile("testdata/base")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := planText(t, newScenario(t, changed(base, archive)), parseOptions(t, archive.Comment))
			want := &archive.Files[len(archive.Files)-1]
			if want.Name != "want" {
				t.Fatalf("%s does not end with want", path)
			}
			if *update {
				want.Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Errorf("-want +got (-update accepts it)\n%s", diff)
			}
		})
	}
}
