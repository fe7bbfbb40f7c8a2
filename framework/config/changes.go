package config

import (
	"fmt"
	"reflect"
)

// Changes returns the names of the attributes and blocks that differ between f and next, the file as it is read later, with the
// endpoints that were added or removed. Blocks that may be repeated are named as a whole. The contents of files are compared only
// where file() reads them.
func (f *File) Changes(next *File) (names []string) {
	names = differences(reflect.ValueOf(*f), reflect.ValueOf(*next))
	before := make(map[string]bool)
	for _, e := range f.Endpoints {
		before[e.String()] = true
	}
	for _, e := range next.Endpoints {
		name := e.String()
		if !before[name] {
			names = append(names, name+" (new)")
			continue
		}
		delete(before, name)
		running, decoded := f.sources.schemas[name], next.sources.schemas[name]
		if running == nil || decoded == nil { // decoding has failed earlier
			continue
		}
		for _, changed := range differences(reflect.ValueOf(running), reflect.ValueOf(decoded)) {
			names = append(names, name+": "+changed)
		}
	}
	for _, e := range f.Endpoints {
		if before[e.String()] {
			names = append(names, e.String()+" (removed)")
		}
	}
	return names
}

// String returns the kind and the name of the endpoint.
func (e Endpoint) String() string { return fmt.Sprintf("endpoint %s %q", e.Kind, e.Name) }

// differences compares two values of one struct that Decode has filled.
func differences(running, next reflect.Value) (names []string) {
	for _, f := range fieldsOf(running.Type()) {
		if f.role == placeField {
			continue
		}
		a, b := running.FieldByIndex(f.index), next.FieldByIndex(f.index)
		switch {
		case f.role == attributeField || f.role == labelField:
			if !same(a, b) || f.placed && f.defaultsTo == "" && a.FieldByName("Set").Bool() != b.FieldByName("Set").Bool() {
				names = append(names, f.name)
			}
		default:
			names = append(names, f.blocks(a, b, differences)...)
		}
	}
	return names
}

// blocks compares the values of a field of blocks with compare, which returns the names of what differs in one block. Repeated
// blocks are named as a whole, and so is a block that is present in only one of the values.
func (f field) blocks(running, next reflect.Value, compare func(a, b reflect.Value) []string) (names []string) {
	if f.repeated {
		differ := running.Len() != next.Len()
		for i := 0; !differ && i < running.Len(); i++ {
			differ = len(compare(running.Index(i), next.Index(i))) > 0
		}
		if differ {
			return []string{f.name}
		}
		return nil
	}
	if running.Kind() == reflect.Pointer {
		switch {
		case running.IsNil() && next.IsNil():
			return nil
		case running.IsNil() || next.IsNil():
			return []string{f.name}
		}
	}
	for _, name := range compare(reflect.Indirect(running), reflect.Indirect(next)) {
		names = append(names, f.name+"."+name)
	}
	return names
}
