package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type taggedBlock struct {
	Block
	Rate int `hcl:"rate" default:"5" min:"0" reload:"restart"`
	Kind int `hcl:"kind"`
}

type taggedRealm struct {
	Name  Value[string] `hcl:"name,label" reload:"restart"`
	Users Value[string] `hcl:"users"`
}

// tagged has an attribute of each kind, with all tags.
type tagged struct {
	Plain    int                   `hcl:"plain" default:"7" min:"1" max:"9" reload:"restart"`
	Placed   Value[time.Duration]  `hcl:"placed" default:"90s" min:"1s" reload:"restart"`
	List     Value[[]netip.Prefix] `hcl:"list" default:"127.0.0.0/8 ::1/128"`
	Share    float64               `hcl:"share" default:"0.5" max:"1"`
	On       bool                  `hcl:"on" default:"true"`
	Words    Value[string]         `hcl:"words" otherwise:"the name"`
	Names    map[string]string     `hcl:"names" reload:"restart"`
	Always   taggedBlock           `hcl:"always,block"`
	Optional *taggedBlock          `hcl:"optional,block"`
	Realms   []taggedRealm         `hcl:"realm,block"`
}

func TestDefaults(t *testing.T) {
	var target tagged
	target.Words.V = "preset"
	if f, diags := decodeText(t, "", &target); len(diags) > 0 {
		t.Fatal(written(t, f, diags))
	}
	want := tagged{
		Plain: 7, Placed: Value[time.Duration]{V: 90 * time.Second}, Share: 0.5, On: true, Words: Value[string]{V: "preset"},
		List:   Value[[]netip.Prefix]{V: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}},
		Always: taggedBlock{Rate: 5},
	}
	if diff := cmp.Diff(want, target, values); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}

	target = tagged{}
	f, diags := decodeText(t, "plain = 3\non = false\nlist = []\nalways {\n  kind = 2\n}\noptional {\n}", &target)
	if len(diags) > 0 {
		t.Fatal(written(t, f, diags))
	}
	if target.Plain != 3 || target.On || len(target.List.V) != 0 || target.Always.Rate != 5 || target.Always.Kind != 2 ||
		target.Always.Range.Start.Line != 5 || target.Optional == nil || target.Optional.Rate != 5 {
		t.Errorf("got %+v", target)
	}
}

func TestBoundsOfValues(t *testing.T) {
	var target tagged
	f, diags := decodeText(t, "plain = 10\nplaced = 0.5\nshare = 2\nalways {\n  rate = -1\n}\noptional {\n  rate = 0\n}", &target)
	got := written(t, f, diags)
	for _, want := range []string{
		":2:9: Out of range: plain is 10: want 1 to 9.",
		":3:10: Out of range: placed is 500ms: want 1s or more.",
		":4:9: Out of range: share is 2: want 1 or less.",
		":6:10: Out of range: rate is -1: want 0 or more.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if len(diags) != 4 {
		t.Errorf("got %d diagnostics:\n%s", len(diags), got)
	}
	if target.Plain != 7 || target.Placed.V != 90*time.Second || !target.Placed.Set || target.Always.Rate != 5 {
		t.Errorf("a value out of range is used: %+v", target)
	}
}

func TestNeedsRestart(t *testing.T) {
	running := tagged{Plain: 1, Realms: []taggedRealm{{Name: Value[string]{V: "a"}, Users: Value[string]{V: "x"}}}}
	next := running
	next.Placed.Set, next.List.V, next.On, next.Always.Kind, next.Names = true, []netip.Prefix{{}}, true, 3, map[string]string{}
	next.Realms = []taggedRealm{{Name: Value[string]{V: "a", Set: true}, Users: Value[string]{V: "y"}}}
	if names := NeedsRestart(tagged{}, running, next); len(names) > 0 {
		t.Errorf("what a reload can change requires a restart: %q", names)
	}
	next = running
	next.Plain, next.Placed.V, next.Always.Rate, next.Names = 2, time.Second, 1, map[string]string{"a": "b"}
	next.Realms = []taggedRealm{{Name: Value[string]{V: "b"}}}
	next.Optional = &taggedBlock{}
	want := []string{"plain", "placed", "names", "always.rate", "optional", "realm"}
	if diff := cmp.Diff(want, NeedsRestart(tagged{}, running, next)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	running.Optional = &taggedBlock{Rate: 2}
	want[4] = "optional.rate"
	if diff := cmp.Diff(want, NeedsRestart(tagged{}, running, next)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	next.Realms = nil
	if names := NeedsRestart(tagged{}, running, next); names[len(names)-1] != "realm" {
		t.Errorf("got %q without the realm", names)
	}
}

// TestTagsInReference checks that the reference documents what the decoder does with tags.
func TestTagsInReference(t *testing.T) {
	var got strings.Builder
	if err := Reference(&got, Section{Target: tagged{}}.Reference()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"plain   number, 1 to 9, default 7\n        A change requires a restart.\n",
		"placed  duration, 1s or more, default 90s\n",
		"list    list of IP prefixes, default 127.0.0.0/8 and ::1/128\n",
		"words   string, default the name\n",
	} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("no %q in:\n%s", want, got.String())
		}
	}
}
