package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// mark is attached to a value, and stays with it through expressions.
type mark string

// reported marks a value that could not be computed. The reason is reported where the value is defined, not at each use.
const reported mark = "reported"

var failed = cty.DynamicVal.Mark(reported)

// variables computes the variables of a file: the top-level attributes that are variables, and the locals. They may refer
// to each other in any order.
type variables struct {
	ctx     *hcl.EvalContext
	sources *sources
	exprs   map[string]hcl.Expression // by name: "hostname", "local.x"
	values  map[string]cty.Value
	active  map[string]bool // being computed, to find cycles
	diags   hcl.Diagnostics
}

// define fills ctx.Variables. attrs are the top-level attributes that are variables; errors in them are left to their decoding,
// except that they refer to themselves.
func define(ctx *hcl.EvalContext, s *sources, attrs hcl.Attributes, locals hcl.Blocks) hcl.Diagnostics {
	v := variables{
		ctx: ctx, sources: s, exprs: make(map[string]hcl.Expression), values: make(map[string]cty.Value), active: make(map[string]bool),
	}
	for name, attr := range attrs {
		v.exprs[name] = attr.Expr
	}
	places := make(map[string]hcl.Range)
	for _, block := range locals {
		attrs, diags := block.Body.JustAttributes()
		v.diags = append(v.diags, diags...)
		for name, attr := range attrs {
			if first, again := places[name]; again {
				v.diags = append(v.diags, diagnostic.Redefined("Local", name, attr.NameRange, first))
				continue
			}
			places[name] = attr.NameRange
			v.exprs["local."+name] = attr.Expr
		}
	}
	names := slices.Sorted(maps.Keys(v.exprs)) // so that a circle is reported at the same place each time
	for _, name := range names {
		v.compute(name)
	}
	ctx.Variables = v.scope(names)
	return v.diags
}

// compute evaluates one variable, after those that it refers to.
func (v *variables) compute(name string) {
	if _, done := v.values[name]; done || v.active[name] {
		return
	}
	v.active[name] = true
	defer delete(v.active, name)

	expr := v.exprs[name]
	var needed []string
	for _, traversal := range expr.Variables() {
		for _, other := range v.referred(traversal) {
			if v.active[other] {
				v.diags = append(v.diags, Errorf(traversal.SourceRange(), "Circular definition",
					"%s is needed to compute %s.", name, other))
				v.values[name] = failed
				return
			}
			v.compute(other)
			needed = append(needed, other)
		}
	}
	c := conversion{
		ctx:  &hcl.EvalContext{Functions: v.ctx.Functions, Variables: v.scope(needed)},
		name: name, secret: namesSecret(name),
	}
	val, diags := expr.Value(c.ctx)
	if unknown := unknownVariables(expr, c.ctx); unknown.HasErrors() {
		diags = unknown
	}
	if diags.HasErrors() {
		val = failed
	}
	if strings.HasPrefix(name, "local.") {
		c.report(diags, expr)
		v.diags = append(v.diags, c.diags...)
		if len(diags) > 0 { // what it is for is not known
			v.sources.secrets = append(v.sources.secrets, expr.Range())
		}
	} else if s := ""; !c.expr(reflect.ValueOf(&s).Elem(), expr) { // an attribute of the schema, and a string there
		val = failed
	}
	v.values[name] = val
}

// scope returns the values of names as HCL's variables.
func (v *variables) scope(names []string) map[string]cty.Value {
	scope := make(map[string]cty.Value)
	locals := make(map[string]cty.Value)
	for _, name := range names {
		if local, ok := strings.CutPrefix(name, "local."); ok {
			locals[local] = v.values[name]
		} else {
			scope[name] = v.values[name]
		}
	}
	scope["local"] = cty.ObjectVal(locals)
	return scope
}

// referred returns the variables that a traversal needs: for `local` with a computed name, all locals.
func (v *variables) referred(traversal hcl.Traversal) []string {
	name := traversal.RootName()
	if name == "local" {
		if len(traversal) > 1 {
			switch step := traversal[1].(type) {
			case hcl.TraverseAttr:
				name += "." + step.Name
			case hcl.TraverseIndex:
				if step.Key.Type() == cty.String {
					name += "." + step.Key.AsString()
				}
			}
		}
		if name == "local" {
			return slices.DeleteFunc(slices.Sorted(maps.Keys(v.exprs)), func(other string) bool {
				return !strings.HasPrefix(other, "local.")
			})
		}
	}
	if _, defined := v.exprs[name]; !defined {
		return nil
	}
	return []string{name}
}
