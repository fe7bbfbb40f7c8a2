package config

import (
	"fmt"
	"reflect"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// Decode decodes body into target, a pointer to a struct with these fields:
//
//	Value[T]      `hcl:"name"`        an attribute; all are optional, a kind checks what it requires
//	T             `hcl:"name"`        an attribute of whose place in the file nothing is said after its decoding
//	S             `hcl:"name,block"`  a block that may appear once; without one S has its defaults
//	*S            `hcl:"name,block"`  a block that may appear once; nil stays nil without one, a preset S is decoded into
//	[]S           `hcl:"name,block"`  a block that may be repeated
//	Value[string] `hcl:"name,label"`  a label of the block that the struct stands for, in the order of the fields
//	Block                             embedded: the place of the block's header
//	S                                 embedded: its fields are the struct's own, for what several kinds have in common
//
// Fields without the hcl tag are ignored. Further tags describe an attribute:
//
//	default:"…"        its value when the file does not set it; of a list, the elements with a space between them
//	otherwise:"…"      the same in words, where the program finds the value
//	min:"…", max:"…"   the bounds of a number or a duration, both included
//	reload:"restart"   a change requires a restart: see NeedsRestart
//	secret:"true"      its value is kept out of every diagnostic
//	doc:"…", type:"…"  what it means, and what it holds where the Go type does not say it: see Reference
//
// Without a default tag, V of an attribute that is not set is not changed, and so may be preset.
//
// A number and a string are converted to each other where that loses nothing. A bool may also be the string yes, no, on, off, true,
// false, 1 or 0. A duration is a number of seconds, or a string as for time.ParseDuration, which may begin with a number of days
// ("1d12h"); it is never negative. A list may be a single value.
//
// Diagnostics point at the value, in a list at the element. Callers that have an Endpoint use its Decode.
//
// Decode panics if target does not follow these rules, which is a mistake in the program.
func Decode(body hcl.Body, ctx *hcl.EvalContext, target any) hcl.Diagnostics {
	d := decoder{ctx: ctx}
	return d.decode(body, target)
}

// Defaults returns a T, a struct as Decode describes it, with the defaults of its tags.
func Defaults[T any]() T {
	var target T
	Decode(hcl.EmptyBody(), nil, &target) // a default that is wrong panics
	return target
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
			d.attribute(f, content.Attributes[f.name], field)
		case blockField:
			d.blocks(f, content.Blocks.OfType(f.name), field)
		}
	}
}

// attribute decodes attr, which is nil if the body has none of that name, into field.
func (d *decoder) attribute(f field, attr *hcl.Attribute, field reflect.Value) {
	value := field
	if f.placed {
		value = field.FieldByName("V")
	}
	if f.defaultsTo != "" {
		value.Set(f.literal(f.defaultsTo))
	}
	if attr == nil {
		return
	}
	c := conversion{ctx: d.ctx, name: f.name, secret: f.secret}
	decoded := reflect.New(f.typ).Elem()
	if c.expr(decoded, attr.Expr) && c.within(f, decoded, attr.Expr.Range()) {
		value.Set(decoded)
		if f.placed {
			field.FieldByName("Elems").Set(reflect.ValueOf(c.elems))
		}
	}
	if f.placed {
		field.FieldByName("Set").SetBool(true)
		field.FieldByName("Range").Set(reflect.ValueOf(attr.Expr.Range()))
	}
	if f.secret {
		d.secrets = append(d.secrets, attr.Expr.Range())
	}
	d.diags = append(d.diags, c.diags...)
}

// blocks decodes the blocks of one type into field, which is a struct, a pointer to one, or a slice of them.
func (d *decoder) blocks(f field, blocks hcl.Blocks, field reflect.Value) {
	if f.repeated {
		for _, block := range blocks {
			elem := reflect.New(field.Type().Elem()).Elem()
			d.block(block, elem)
			field.Set(reflect.Append(field, elem))
		}
		return
	}
	if field.Kind() == reflect.Struct {
		d.content(new(hcl.BodyContent), field) // the defaults
		field = field.Addr()
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
