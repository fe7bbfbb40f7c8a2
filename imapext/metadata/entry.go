// Package metadata implements the syntax of the IMAP METADATA extension (RFC 5464): entry names, the GETMETADATA and SETMETADATA
// commands, and METADATA responses. It does no I/O and keeps no state.
package metadata

import (
	"errors"
	"strings"
)

// Entry is an annotation: a name and its value (RFC 5464 section 3).
type Entry struct {
	// Name is compared without regard to case (section 3.2); names of ours are in lower case.
	Name  string
	Value Value
}

// Value is an entry's value: any octets, or NIL, which means no value and differs from the empty one (RFC 5464 section 3.1).
type Value struct {
	octets string
	set    bool
}

// NIL is the value of an entry that does not exist, or that SETMETADATA removes.
var NIL Value

// String returns the value that consists of the octets of s.
func String(s string) Value {
	return Value{octets: s, set: true}
}

// IsNIL reports whether v is NIL.
func (v Value) IsNIL() bool {
	return !v.set
}

// Octets returns the octets of v, none for NIL.
func (v Value) Octets() string {
	return v.octets
}

// Errors of CheckName, for the text of a tagged BAD.
var (
	errNameRoot      = errors.New("entry name does not begin with /private/ or /shared/")
	errNameComponent = errors.New("entry name has an empty component")
	errNameCharacter = errors.New("entry name has a forbidden character")
	errNameVendor    = errors.New("vendor entry name has fewer than four components")
)

// CheckName checks that name can be the name of an entry (RFC 5464 section 3.2): it begins with /private or /shared and at least
// one more component, has no empty component, no "*", "%", control or 8-bit character, and at least four components if it is a
// vendor's (section 3.2.1).
func CheckName(name string) error {
	if err := CheckPrefix(name); err != nil {
		return err
	}
	components := strings.Split(strings.ToLower(name), "/")[1:]
	if len(components) < 2 {
		return errNameRoot
	}
	if components[1] == "vendor" && len(components) < 4 {
		return errNameVendor
	}
	return nil
}

// CheckPrefix checks name as CheckName does, but also accepts a parent of entries, such as /shared or /shared/vendor/example. A
// GETMETADATA with DEPTH may ask for the entries below it (RFC 5464 section 4.2.2), and servers accept such names without DEPTH
// too.
func CheckPrefix(name string) error {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7F || c == '*' || c == '%' {
			return errNameCharacter
		}
	}
	if strings.Contains(name, "//") || strings.HasSuffix(name, "/") {
		return errNameComponent
	}
	root, _, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !strings.HasPrefix(name, "/") || !strings.EqualFold(root, "private") && !strings.EqualFold(root, "shared") {
		return errNameRoot
	}
	return nil
}

// Depth says how far below a named entry GETMETADATA looks (RFC 5464 section 4.2.2).
type Depth int

const (
	DepthZero     Depth = iota // the entry itself
	DepthOne                   // and one level below it
	DepthInfinity              // and all levels below it
)

// String returns d as it is written in the command.
func (d Depth) String() string {
	switch d {
	case DepthOne:
		return "1"
	case DepthInfinity:
		return "infinity"
	default:
		return "0"
	}
}

// Covers reports whether asking for the entry asked with depth d asks for the entry name. Both are in the same case.
func (d Depth) Covers(asked, name string) bool {
	rest, ok := strings.CutPrefix(name, asked)
	switch {
	case !ok:
		return false
	case rest == "":
		return true
	case rest[0] != '/':
		return false
	case d == DepthOne:
		return strings.IndexByte(rest[1:], '/') < 0
	default:
		return d == DepthInfinity
	}
}
