package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// maxPlaces is the number of places that are named for one attribute.
const maxPlaces = 5

// blockPlace is a place where a name is allowed.
type blockPlace struct {
	where string // with its preposition
	depth int    // of blocks inside an endpoint, or the file
}

// Misplaced adds to each of diags that is about an unexpected name a hint that says where the name belongs, if it is in sections.
// If there are many places, it leaves out those in nested blocks.
func (f *File) Misplaced(diags hcl.Diagnostics, sections ...Section) {
	places := make(map[string][]blockPlace)
	for _, s := range sections {
		t := reflect.TypeOf(s.Target)
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		addPlaces(places, t, f.inside(s), 0)
	}
	for _, diag := range diags {
		name, unexpected := unexpectedName(diag)
		known := places[name]
		if len(known) > maxPlaces {
			known = slices.DeleteFunc(slices.Clone(known), func(p blockPlace) bool { return p.depth > 0 })
		}
		if !unexpected || len(known) == 0 || len(known) > maxPlaces {
			continue
		}
		var where []string
		for _, p := range known {
			where = append(where, p.where)
		}
		WithHint(diag, fmt.Sprintf("%s belongs %s", name, strings.Join(where, " or ")))
	}
}

// inside returns the words for being in a section, in the file's syntax.
func (f *File) inside(s Section) string {
	switch {
	case s.Header == "":
		return "at the top level of the file"
	case f.Syntax == Directives:
		return "in " + strings.NewReplacer(`endpoint "`, "endpoint.", `" `, " ").Replace(s.Header)
	}
	return "in " + s.Header
}

// addPlaces adds the places of the names of t and of the blocks in it. where is the place of t.
func addPlaces(places map[string][]blockPlace, t reflect.Type, where string, depth int) {
	for _, f := range fieldsOf(t) {
		if f.role == attributeField || f.role == blockField {
			places[f.name] = append(places[f.name], blockPlace{where, depth})
		}
		if f.role == blockField {
			addPlaces(places, f.typ, "in "+f.name+" { … } "+where, depth+1)
		}
	}
}

// unexpectedName returns the name in a diagnostic about a name that is not expected in its place, whatever the form of the
// diagnostic.
func unexpectedName(diag *hcl.Diagnostic) (name string, ok bool) {
	if !strings.HasPrefix(diag.Summary, "Unsupported ") || strings.Contains(diag.Detail, "Did you mean to define") {
		return "", false
	}
	_, rest, _ := strings.Cut(diag.Detail, `"`)
	name, _, ok = strings.Cut(rest, `"`)
	return name, ok
}
