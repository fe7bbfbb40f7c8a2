package config

import (
	"encoding"
	"net/netip"
	"reflect"
	"time"
)

// kind describes in words what an attribute of some Go type holds.
type kind struct {
	word    string // in the reference
	plural  string
	noun    string // in a diagnostic, with its article
	example string // one that is right, where the noun does not say it
}

func (k kind) accepted() string {
	if k.example == "" {
		return k.noun
	}
	return k.noun + " such as " + k.example
}

func describe(t reflect.Type) kind {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return kind{"duration", "durations", "a duration", `86400 (seconds), "24h" or "5d"`}
	case reflect.TypeFor[netip.Addr]():
		return kind{"IP address", "IP addresses", "an IP address", `"198.51.100.7"`}
	case reflect.TypeFor[netip.Prefix]():
		return kind{"IP prefix", "IP prefixes", "an IP prefix", `"198.51.100.0/24", or "198.51.100.7/32" for one address`}
	case reflect.TypeFor[netip.AddrPort]():
		return kind{"IP address with port", "IP addresses with ports", "an IP address with a port", `"198.51.100.7:3478"`}
	}
	if !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		switch t.Kind() {
		case reflect.Bool:
			return kind{"bool", "bools", "true or false", ""}
		case reflect.Int, reflect.Int64:
			return kind{"number", "numbers", "a whole number", ""}
		case reflect.Float64:
			return kind{"number", "numbers", "a number", ""}
		case reflect.Slice:
			elem := describe(t.Elem())
			return kind{"list of " + elem.plural, "", "a list of " + elem.plural, ""}
		case reflect.Map:
			return kind{"map of strings", "", "a map of strings", ""}
		}
	}
	return kind{"string", "strings", "a string", ""}
}
