package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

type fieldRole int

const (
	attributeField fieldRole = iota
	blockField
	labelField
	placeField // the embedded Block
)

// field is a struct field with what its tags say.
type field struct {
	index      []int // as reflect.Value.FieldByIndex has it
	role       fieldRole
	name       string
	goName     string
	secret     bool
	typ        reflect.Type // of the attribute's value, or of the block's struct
	placed     bool         // an attribute that is a Value
	repeated   bool         // a block that may appear several times
	restart    bool         // a change requires a restart
	typeWords  string       // overrides what Reference derives from typ
	defaultsTo string       // a literal
	otherwise  string       // in words
	min, max   string       // literals
	doc        string
}

// valued is the part of Value[T] that the decoder uses, whatever T.
type valued interface{ valueType() reflect.Type }

func (v Value[T]) valueType() reflect.Type { return reflect.TypeFor[T]() }

// literal returns the value of a literal in a tag.
func (f field) literal(text string) reflect.Value {
	val := cty.StringVal(text)
	if f.typ.Kind() == reflect.Slice && !isScalar(f.typ) {
		var elems []cty.Value
		for word := range strings.FieldsSeq(text) {
			elems = append(elems, cty.StringVal(word))
		}
		val = cty.TupleVal(elems)
	}
	c := conversion{name: f.name}
	v := reflect.New(f.typ).Elem()
	if !c.expr(v, hcl.StaticExpr(val, hcl.Range{})) {
		panic(fmt.Sprintf("config: %q in a tag is no value of %s: %v", text, f.name, c.diags))
	}
	return v
}

// bounds returns in words which values are accepted, or "" for all.
func (f field) bounds() string {
	switch {
	case f.min != "" && f.max != "":
		return f.min + " to " + f.max
	case f.min != "":
		return f.min + " or more"
	case f.max != "":
		return f.max + " or less"
	}
	return ""
}

// within reports whether v, the value of an attribute, is within the bounds of its field, and adds an error if it is not.
func (c *conversion) within(f field, v reflect.Value, rng hcl.Range) bool {
	if (f.min == "" || compare(v, f.literal(f.min)) >= 0) && (f.max == "" || compare(v, f.literal(f.max)) <= 0) {
		return true
	}
	c.errorf(rng, "Out of range", "%s is %v: want %s.", f.name, v, f.bounds())
	return false
}

func compare(a, b reflect.Value) int {
	switch {
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanFloat():
		return cmp.Compare(a.Float(), b.Float())
	}
	panic(fmt.Sprintf("config: bounds of a %v", a.Type()))
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for sf := range t.Fields() {
		if sf.Anonymous && sf.Type == reflect.TypeFor[Block]() {
			fields = append(fields, field{index: sf.Index, role: placeField})
			continue
		}
		tag, ok := sf.Tag.Lookup("hcl")
		if sf.Anonymous && !ok && sf.Type.Kind() == reflect.Struct {
			for _, f := range fieldsOf(sf.Type) {
				f.index = slices.Concat(sf.Index, f.index)
				fields = append(fields, f)
			}
			continue
		}
		if !ok {
			continue
		}
		name, role, _ := strings.Cut(tag, ",")
		f := field{
			index: sf.Index, name: name, goName: sf.Name, typ: sf.Type,
			secret:     sf.Tag.Get("secret") == "true",
			restart:    sf.Tag.Get("reload") == "restart",
			typeWords:  sf.Tag.Get("type"),
			defaultsTo: sf.Tag.Get("default"),
			otherwise:  sf.Tag.Get("otherwise"),
			min:        sf.Tag.Get("min"),
			max:        sf.Tag.Get("max"),
			doc:        sf.Tag.Get("doc"),
		}
		elem := sf.Type
		if elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
			elem = elem.Elem()
		}
		switch {
		case role == "" && sf.Type.Implements(reflect.TypeFor[valued]()):
			f.role, f.placed = attributeField, true
			f.typ = reflect.Zero(sf.Type).Interface().(valued).valueType()
		case role == "":
			f.role = attributeField
		case role == "block" && elem.Kind() == reflect.Struct:
			f.role, f.typ = blockField, elem
			f.repeated = sf.Type.Kind() == reflect.Slice
		case role == "label" && sf.Type == reflect.TypeFor[Value[string]]():
			f.role = labelField
		default:
			panic(fmt.Sprintf("config: %v.%s cannot be decoded as `hcl:%q`", t, sf.Name, tag))
		}
		fields = append(fields, f)
	}
	return fields
}

// schemaOf returns the names that a body decoded into t may have, in the order of the fields.
func schemaOf(t reflect.Type) *hcl.BodySchema {
	schema := new(hcl.BodySchema)
	for _, f := range fieldsOf(t) {
		switch f.role {
		case attributeField:
			schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: f.name})
		case blockField:
			header := hcl.BlockHeaderSchema{Type: f.name}
			for _, inner := range fieldsOf(f.typ) {
				if inner.role == labelField {
					header.LabelNames = append(header.LabelNames, inner.name)
				}
			}
			schema.Blocks = append(schema.Blocks, header)
		}
	}
	return schema
}
