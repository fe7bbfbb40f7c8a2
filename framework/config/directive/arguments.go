package directive

import (
	"reflect"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// arguments are what follows the name of a directive, as an hcl.Expression: one string, a list of strings, a map from the
// directives of a block, or true if nothing follows.
type arguments struct{ d *directive }

func (a *arguments) Value(*hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	d := a.d
	if d.hasBlock {
		if len(d.args) > 0 {
			return cty.DynamicVal, hcl.Diagnostics{diagnostic.Errorf(a.Range(), "Unexpected block", "%s takes arguments or a block, not both.", d.name.text)}
		}
		entries := make(map[string]cty.Value)
		var diags hcl.Diagnostics
		for _, entry := range d.block {
			val, more := (&arguments{entry}).Value(nil)
			entries[entry.name.text] = val
			diags = append(diags, more...)
		}
		return cty.ObjectVal(entries), diags
	}
	var vals []cty.Value
	for _, arg := range d.args {
		vals = append(vals, cty.StringVal(arg.text))
	}
	switch len(vals) {
	case 0:
		return cty.True, nil
	case 1:
		return vals[0], nil
	}
	return cty.TupleVal(vals), nil
}

func (a *arguments) Variables() []hcl.Traversal { return nil }

func (a *arguments) Range() hcl.Range {
	if len(a.d.args) == 0 || a.d.hasBlock {
		return hcl.RangeBetween(a.d.name.rng, a.d.end)
	}
	return hcl.RangeBetween(a.d.args[0].rng, a.d.end)
}

func (a *arguments) StartRange() hcl.Range { return a.d.name.rng }

// ExprFor returns the arguments as a value of type t. Without arguments it returns nil except for a bool, which is then true. Those
// of a duration are joined to one word, as in maddy: `1h 30m`.
func (a *arguments) ExprFor(t reflect.Type) hcl.Expression {
	switch d := a.d; {
	case d.hasBlock:
		return a
	case len(d.args) == 0 && t.Kind() != reflect.Bool:
		return nil
	case len(d.args) > 1 && t == reflect.TypeFor[time.Duration]():
		var text strings.Builder
		for _, arg := range d.args {
			text.WriteString(arg.text)
		}
		return hcl.StaticExpr(cty.StringVal(text.String()), a.Range())
	}
	return a
}

// ExprList is the method that hcl.ExprList looks for: it returns the arguments one by one.
func (a *arguments) ExprList() []hcl.Expression {
	if a.d.hasBlock {
		return nil
	}
	var list []hcl.Expression
	for _, arg := range a.d.args {
		list = append(list, hcl.StaticExpr(cty.StringVal(arg.text), arg.rng))
	}
	return list
}

// ExprMap is the method that hcl.ExprMap looks for: it returns the directives of the block as keys and values.
func (a *arguments) ExprMap() []hcl.KeyValuePair {
	if !a.d.hasBlock || len(a.d.args) > 0 {
		return nil
	}
	pairs := []hcl.KeyValuePair{}
	for _, entry := range a.d.block {
		pairs = append(pairs, hcl.KeyValuePair{
			Key:   hcl.StaticExpr(cty.StringVal(entry.name.text), entry.name.rng),
			Value: &arguments{entry},
		})
	}
	return pairs
}
