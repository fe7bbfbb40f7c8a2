package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// Decode decodes body into target, a pointer to a struct with these fields:
//
//	Value[T]      `hcl:"name"`        an attribute; all are optional, a kind checks what it requires
//	*S            `hcl:"name,block"`  a block that may appear once; nil stays nil without one, a preset S is decoded into
//	[]S           `hcl:"name,block"`  a block that may be repeated
//	Value[string] `hcl:"name,label"`  a label of the block that the struct stands for, in the order of the fields
//	Block                             embedded: the place of the block's header
//	S                                 embedded: its fields are the struct's own, for what several kinds have in common
//
// Fields without the hcl tag are left alone, and so is V of an attribute that is not set: a preset V is the default.
// The tag secret:"true" keeps an attribute's value out of every diagnostic. Reference reads the tags doc, default and type.
//
// A number and a string are taken for each other where that loses nothing. A bool may also be the string yes, no, on, off,
// true, false, 1 or 0. A duration is a number of seconds, or a string as time.ParseDuration has it, which may begin with a
// number of days ("1d12h"), and never negative. A list may be one single value.
//
// Diagnostics point at the value, in a list at the element. Callers that have an Endpoint use its Decode.
//
// A target that does not follow these rules is a mistake in the program, and panics.
func Decode(body hcl.Body, ctx *hcl.EvalContext, target any) hcl.Diagnostics {
	d := decoder{ctx: ctx}
	return d.decode(body, target)
}

// decoder decodes one body and the bodies inside it.
type decoder struct {
	ctx     *hcl.EvalContext
	diags   hcl.Diagnostics
	secrets []hcl.Range // expressions of attributes tagged secret
}

func (d *decoder) decode(body hcl.Body, target any) hcl.Diagnostics {
	v := reflect.ValueOf(target)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("config: decode into %T, want a pointer to a struct", target))
	}
	d.body(body, v.Elem())
	return d.diags
}

func (d *decoder) body(body hcl.Body, target reflect.Value) {
	content, diags := body.Content(schemaOf(target.Type()))
	d.diags = append(d.diags, concerningNames(diags)...)
	d.content(content, target)
}

// content decodes what body.Content found into the struct target.
func (d *decoder) content(content *hcl.BodyContent, target reflect.Value) {
	for _, f := range fieldsOf(target.Type()) {
		field := target.FieldByIndex(f.index)
		switch f.role {
		case attributeField:
			if attr, ok := content.Attributes[f.name]; ok {
				field.Addr().Interface().(attribute).decode(d, f, attr.Expr)
			}
		case blockField:
			d.blocks(f, content.Blocks.OfType(f.name), field)
		}
	}
}

// blocks decodes the blocks of one type into field, a pointer to a struct or a slice of structs.
func (d *decoder) blocks(f field, blocks hcl.Blocks, field reflect.Value) {
	if f.repeated {
		for _, block := range blocks {
			elem := reflect.New(field.Type().Elem()).Elem()
			d.block(block, elem)
			field.Set(reflect.Append(field, elem))
		}
		return
	}
	for i, block := range blocks {
		if i > 0 {
			d.diags = append(d.diags, diagnostic.Redefined("Block", f.name, block.DefRange, blocks[0].DefRange))
			continue
		}
		if field.IsNil() {
			field.Set(reflect.New(field.Type().Elem()))
		}
		d.block(block, field.Elem())
	}
}

func (d *decoder) block(block *hcl.Block, target reflect.Value) {
	label := 0
	for _, f := range fieldsOf(target.Type()) {
		switch f.role {
		case placeField:
			target.FieldByIndex(f.index).Set(reflect.ValueOf(Block{Range: block.DefRange}))
		case labelField:
			target.FieldByIndex(f.index).Set(reflect.ValueOf(Value[string]{
				V: block.Labels[label], Set: true, Range: block.LabelRanges[label],
			}))
			label++
		}
	}
	d.body(block.Body, target)
}

// attribute is what *Value[T] is to the decoder, whatever T.
type attribute interface {
	decode(d *decoder, f field, expr hcl.Expression)
	valueType() reflect.Type
}

func (v *Value[T]) decode(d *decoder, f field, expr hcl.Expression) {
	c := conversion{ctx: d.ctx, name: f.name, secret: f.secret}
	var decoded T
	if c.expr(reflect.ValueOf(&decoded).Elem(), expr) {
		v.V, v.Elems = decoded, c.elems
	}
	v.Set, v.Range = true, expr.Range()
	if f.secret {
		d.secrets = append(d.secrets, v.Range)
	}
	d.diags = append(d.diags, c.diags...)
}

func (v *Value[T]) valueType() reflect.Type { return reflect.TypeFor[T]() }

type fieldRole int

const (
	attributeField fieldRole = iota
	blockField
	labelField
	placeField // the embedded Block
)

// field is what the tags of a struct field say.
type field struct {
	index      []int // as reflect.Value.FieldByIndex has it
	role       fieldRole
	name       string
	secret     bool
	typ        reflect.Type // of the attribute's value, or of the block's struct
	repeated   bool         // a block that may stand several times
	typeWords  string       // overrides what Reference derives from typ
	defaultsTo string
	doc        string
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		sf := t.Field(i)
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
			index: sf.Index, name: name, typ: sf.Type,
			secret:     sf.Tag.Get("secret") == "true",
			typeWords:  sf.Tag.Get("type"),
			defaultsTo: sf.Tag.Get("default"),
			doc:        sf.Tag.Get("doc"),
		}
		switch {
		case role == "" && reflect.PointerTo(sf.Type).Implements(reflect.TypeFor[attribute]()):
			f.role = attributeField
			f.typ = reflect.Zero(reflect.PointerTo(sf.Type)).Interface().(attribute).valueType()
		case role == "block" && (sf.Type.Kind() == reflect.Pointer || sf.Type.Kind() == reflect.Slice) &&
			sf.Type.Elem().Kind() == reflect.Struct:
			f.role = blockField
			f.typ = sf.Type.Elem()
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

// schemaOf returns the names that a body decoded into t may hold, in the order of the fields.
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
