package moduletest

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config"
)

// Defaults checks that the default that a schema documents for an attribute is the one in force: a body that sets the attribute to
// it decodes to the same configuration as one that does not, and if the configuration has a field of the same Go name, that has
// this value.
//
// S is the struct of a body. decode returns the configuration of a body in HCL, and fails the test on an error.
func Defaults[S any](t *testing.T, decode func(t *testing.T, body string) any) {
	t.Helper()
	want := decode(t, "")
	documented := config.Defaults[S]()
	inForce(t, reflect.ValueOf(documented), reflect.ValueOf(want))
	for name, text := range literals(reflect.TypeFor[S]()) {
		t.Run(name, func(t *testing.T) {
			got := decode(t, name+" = "+text)
			if diff := cmp.Diff(want, got, sameConfiguration); diff != "" {
				t.Errorf("the default of %s is documented as %s; -without it +with it:\n%s", name, text, diff)
			}
		})
	}
}

// inForce compares the attributes of a schema decoded from an empty body with the fields of the same name in configuration.
func inForce(t *testing.T, documented, configuration reflect.Value) {
	t.Helper()
	for field, want := range documented.Fields() {
		name, isAttribute := field.Tag.Lookup("hcl")
		if field.Anonymous && !isAttribute {
			if want.Kind() == reflect.Struct {
				inForce(t, want, configuration)
			}
			continue
		}
		got := configuration.FieldByName(field.Name)
		if !isAttribute || !got.IsValid() {
			continue
		}
		switch _, ok := field.Tag.Lookup("default"); {
		case ok && got.Type() == want.Type():
			if diff := cmp.Diff(want.Interface(), got.Interface(), sameConfiguration); diff != "" {
				t.Errorf("%s: -documented +in force\n%s", name, diff)
			}
		case want.Kind() == reflect.Struct && got.Type() == want.Type() && strings.HasSuffix(name, ",block"):
			inForce(t, want, got)
		}
	}
}

// sameConfiguration compares the values of configurations, ignoring where and whether the file sets them.
var sameConfiguration = cmp.Options{
	cmp.Exporter(func(reflect.Type) bool { return true }),
	cmpopts.EquateEmpty(),
	cmpopts.IgnoreTypes(hcl.Range{}, []hcl.Range{}, []config.Set{}),
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
	cmp.FilterPath(func(p cmp.Path) bool { return strings.HasSuffix(p.Last().String(), "Set") }, cmp.Ignore()),
}

// literals returns the documented defaults of the attributes of a struct, as HCL.
func literals(t reflect.Type) map[string]string {
	found := make(map[string]string)
	for field := range t.Fields() {
		name, tagged := field.Tag.Lookup("hcl")
		text, ok := field.Tag.Lookup("default")
		switch {
		case field.Anonymous && !tagged && field.Type.Kind() == reflect.Struct:
			maps.Copy(found, literals(field.Type))
		case tagged && ok && isList(field.Type):
			var elems []string
			for word := range strings.FieldsSeq(text) {
				elems = append(elems, strconv.Quote(word))
			}
			found[name] = fmt.Sprintf("[%s]", strings.Join(elems, ", "))
		case tagged && ok:
			found[name] = strconv.Quote(text)
		}
	}
	return found
}

// isList reports whether an attribute of the Go type t, plain or a config.Value, is a list.
func isList(t reflect.Type) bool {
	if t.Kind() == reflect.Struct {
		if value, ok := t.FieldByName("V"); ok {
			t = value.Type
		}
	}
	return t.Kind() == reflect.Slice
}
