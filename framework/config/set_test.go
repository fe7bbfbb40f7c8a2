package config

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSet(t *testing.T) {
	file, diags := Parse("maddy.conf", []byte(`endpoint "test" "test" {
  list = []
  words = "a"
  always {
    rate = 5
  }
  realm "a" {
    users = "x"
  }
  realm "b" {
  }
}
`))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var got []string
	for _, set := range file.Endpoints[0].Set(tagged{}) {
		got = append(got, fmt.Sprintf("%s on line %d", set.Name, set.Range.Start.Line))
	}
	want := []string{
		"list on line 2", "words on line 3", "always on line 4", "always.rate on line 5", "realm on line 7", "realm.users on line 8", "realm on line 10",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
