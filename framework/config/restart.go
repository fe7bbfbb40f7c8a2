package config

import (
	"reflect"
)

// NeedsRestart returns the names of the attributes and blocks with the tag reload:"restart" in which two configurations differ:
// "realm", and "peers.silent_bytes" for one in a block.
//
// schema is the struct that a body is decoded into. running and next are of that type, or of one with its values: for each tagged
// field, and the block around it, it has a field of the same Go name. Of two Values, V is compared.
func NeedsRestart(schema, running, next any) []string {
	return restarts(reflect.TypeOf(schema), reflect.ValueOf(running), reflect.ValueOf(next))
}

func restarts(schema reflect.Type, running, next reflect.Value) (names []string) {
	for _, f := range fieldsOf(schema) {
		switch {
		case f.restart:
			if !same(running.FieldByName(f.goName), next.FieldByName(f.goName)) {
				names = append(names, f.name)
			}
		case f.role == blockField && hasRestart(f.typ):
			names = append(names, f.blocks(running.FieldByName(f.goName), next.FieldByName(f.goName), func(a, b reflect.Value) []string {
				return restarts(f.typ, a, b)
			})...)
		}
	}
	return names
}

func hasRestart(t reflect.Type) bool {
	for _, f := range fieldsOf(t) {
		if f.restart || f.role == blockField && hasRestart(f.typ) {
			return true
		}
	}
	return false
}

// same reports whether two values mean the same in a configuration, where an empty list equals none.
func same(a, b reflect.Value) bool {
	if a.Type().Implements(reflect.TypeFor[valued]()) {
		a, b = a.FieldByName("V"), b.FieldByName("V")
	}
	if (a.Kind() == reflect.Slice || a.Kind() == reflect.Map) && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
