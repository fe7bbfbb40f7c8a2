package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

const (
	// maxEvaluated bounds the total size in bytes of what the expressions of a file yield. Ten lines that each join the previous
	// one with itself yield a thousand times the first, and so does a for inside a for.
	maxEvaluated = 4 << 20
	// valueOverhead is the size of a value without its text.
	valueOverhead = 64
)

// A budget is the rest of maxEvaluated.
type budget struct {
	left     int
	exceeded *hcl.Diagnostic // nil as long as there is something left
}

// spend subtracts the size of val from the budget, and reports whether enough was left.
func (b *budget) spend(val cty.Value, rng hcl.Range) bool {
	if b.exceeded == nil && !b.take(val) {
		b.exceeded = diagnostic.Valueless(Errorf(rng, "Configuration too large after expansion", "From here on, the expressions of the file produce more than %d bytes.", maxEvaluated))
	}
	return b.exceeded == nil
}

func (b *budget) take(val cty.Value) bool {
	val, _ = val.Unmark()
	b.left -= valueOverhead
	switch t := val.Type(); {
	case b.left < 0 || val.IsNull() || !val.IsKnown():
	case t == cty.String:
		b.left -= len(val.AsString())
	case val.CanIterateElements():
		for key, element := range val.Elements() {
			if !b.take(key) || !b.take(element) {
				break
			}
		}
	}
	return b.left >= 0
}

// meter charges to b whatever multiplies in the expressions of body: each part of a template, each element of a list or map, and
// each iteration of a for. It also refuses characters that templates would combine: see combines.
func meter(body *hclsyntax.Body, b *budget) hcl.Diagnostics {
	wrap := func(exprs ...*hclsyntax.Expression) {
		for _, expr := range exprs {
			if *expr != nil {
				*expr = newMetered(*expr, b, false)
			}
		}
	}
	return hclsyntax.VisitAll(body, func(node hclsyntax.Node) (diags hcl.Diagnostics) {
		switch node := node.(type) {
		case *hclsyntax.Attribute:
			wrap(&node.Expr)
		case *hclsyntax.TupleConsExpr:
			for i := range node.Exprs {
				wrap(&node.Exprs[i])
			}
		case *hclsyntax.ObjectConsExpr:
			for i := range node.Items {
				wrap(&node.Items[i].ValueExpr)
			}
		case *hclsyntax.ForExpr:
			wrap(&node.CollExpr, &node.KeyExpr, &node.CondExpr)
			node.ValExpr = newMetered(node.ValExpr, b, true) // by a for in a template
		case *hclsyntax.TemplateExpr:
			for i, part := range node.Parts {
				literal, ok := part.(*hclsyntax.LiteralValueExpr) // HCL looks for them, and they are as long as the source
				if !ok {
					node.Parts[i] = newMetered(part, b, i > 0)
				} else if i > 0 && combines(literal.Val) {
					diags = append(diags, combining(literal.SrcRange))
				}
			}
		}
		return diags
	})
}

// metered is an expression that charges what it yields to a budget. To code that walks the syntax tree, it looks like a pair of
// parentheses.
type metered struct {
	*hclsyntax.ParenthesesExpr
	budget *budget
	joined bool // to what is before it
}

func newMetered(expr hclsyntax.Expression, b *budget, joined bool) metered {
	return metered{&hclsyntax.ParenthesesExpr{Expression: expr, SrcRange: expr.Range()}, b, joined}
}

func (m metered) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	if m.budget.exceeded != nil {
		return cty.DynamicVal, hcl.Diagnostics{m.budget.exceeded}
	}
	val, diags := m.Expression.Value(ctx)
	if !m.budget.spend(val, m.Range()) {
		return cty.DynamicVal, append(diags, m.budget.exceeded)
	}
	if m.joined && combines(val) {
		return cty.DynamicVal, append(diags, combining(m.Range()))
	}
	return val, diags
}

// UnwrapExpression lets hcl.ExprList and similar functions see the metered expression.
func (m metered) UnwrapExpression() hcl.Expression { return m.Expression }
