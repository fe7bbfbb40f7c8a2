package config

import (
	"encoding"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// conversion turns the expression of one attribute into a Go value.
type conversion struct {
	ctx    *hcl.EvalContext
	name   string
	secret bool // no diagnostic may show a value
	diags  hcl.Diagnostics
	elems  []hcl.Range
}

// untyped is an expression whose value depends on the type required, such as the words after the name of a directive. HCL uses
// methods of this kind for the other forms of an expression: see hcl.ExprList.
type untyped interface {
	// ExprFor returns the expression to evaluate for a value of type t, or nil if there is none.
	ExprFor(t reflect.Type) hcl.Expression
}

// expr sets dst to the value of expr. It returns false, with a diagnostic, when expr has no value that dst can hold.
func (c *conversion) expr(dst reflect.Value, expr hcl.Expression) bool {
	if words, ok := expr.(untyped); ok {
		typed := words.ExprFor(dst.Type())
		if typed == nil {
			c.errorf(expr.Range(), "Value is missing", "%s is expected after %s.", describe(dst.Type()).accepted(), c.name)
			return false
		}
		expr = typed
	}
	if isScalar(dst.Type()) {
		val, ok := c.evaluate(expr)
		return ok && c.scalar(dst, val, expr.Range())
	}
	switch {
	case dst.Kind() == reflect.Slice && isScalar(dst.Type().Elem()):
		return c.list(dst, expr)
	case dst.Type() == reflect.TypeFor[map[string]string]():
		return c.stringMap(dst, expr)
	}
	panic(fmt.Sprintf("config: attribute %q has the type %v, which cannot be decoded", c.name, dst.Type()))
}

// evaluate returns the value of expr, which is known, not null and without marks.
func (c *conversion) evaluate(expr hcl.Expression) (cty.Value, bool) {
	if diags := unknownVariables(expr, c.ctx); diags.HasErrors() {
		c.report(diags, expr)
		return cty.NilVal, false
	}
	val, diags := expr.Value(c.ctx)
	c.report(diags, expr)
	if diags.HasErrors() {
		return cty.NilVal, false
	}
	if val.HasMarkDeep(reported) {
		return cty.NilVal, false
	}
	val, marks := val.UnmarkDeep()
	for mark := range marks {
		if file, ok := mark.(openFile); ok && c.secret {
			c.diags = append(c.diags, WithHint(
				Warnf(expr.Range(), "Secret file is readable by everybody",
					"Every user of this machine can read or change %s (mode %04o), which contains %s.", file.path, file.mode, c.name),
				"chmod o= "+file.path))
		}
	}
	switch {
	case !val.IsWhollyKnown():
		c.errorf(expr.Range(), "Value is unknown", "%s depends on something that has no value when the file is read.", c.name)
	case val.IsNull():
		c.errorf(expr.Range(), "Value is null", "%s is null; omit it to use the default.", c.name)
	default:
		return val, true
	}
	return cty.NilVal, false
}

// report adds the diagnostics of evaluating expr. HCL's own text about a secret is replaced, because it may quote the source, such
// as a password without quotation marks.
func (c *conversion) report(diags hcl.Diagnostics, expr hcl.Expression) {
	for _, diag := range diags {
		if own, ok := explainCall(diag); ok {
			diag = own
		} else if c.secret && !diagnostic.IsValueless(diag) {
			rng := expr.Range()
			diag = &hcl.Diagnostic{
				Severity: diag.Severity, Summary: diag.Summary, Subject: &rng,
				Detail: fmt.Sprintf(`%s has no value; a string in quotes, file("path") or env("NAME") is accepted.`, c.name),
			}
		}
		c.diags = append(c.diags, diag)
	}
}

func (c *conversion) list(dst reflect.Value, expr hcl.Expression) bool {
	list := reflect.MakeSlice(dst.Type(), 0, 0)
	ok := true
	add := func(convert func(reflect.Value) bool) {
		elem := reflect.New(dst.Type().Elem()).Elem()
		if convert(elem) {
			list = reflect.Append(list, elem)
		} else {
			ok = false
		}
	}
	if exprs, diags := hcl.ExprList(expr); !diags.HasErrors() {
		for _, e := range exprs {
			add(func(elem reflect.Value) bool { return c.expr(elem, e) })
			c.elems = append(c.elems, e.Range())
		}
	} else {
		val, known := c.evaluate(expr)
		if !known {
			return false
		}
		if t := val.Type(); t.IsListType() || t.IsSetType() || t.IsTupleType() {
			for _, v := range val.AsValueSlice() {
				add(func(elem reflect.Value) bool { return c.scalar(elem, v, expr.Range()) })
			}
		} else {
			add(func(elem reflect.Value) bool { return c.scalar(elem, val, expr.Range()) })
		}
	}
	dst.Set(list)
	return ok
}

func (c *conversion) stringMap(dst reflect.Value, expr hcl.Expression) bool {
	entries := make(map[string]string)
	ok := true
	if pairs, diags := hcl.ExprMap(expr); !diags.HasErrors() {
		places := make(map[string]hcl.Range)
		for _, pair := range pairs {
			var key, value string
			if !c.expr(reflect.ValueOf(&key).Elem(), pair.Key) || !c.expr(reflect.ValueOf(&value).Elem(), pair.Value) {
				ok = false
				continue
			}
			if first, again := places[key]; again {
				if c.secret {
					key = "this key"
				}
				c.diags = append(c.diags, diagnostic.Redefined("Key", key, pair.Key.Range(), first))
				ok = false
				continue
			}
			places[key] = pair.Key.Range()
			entries[key] = value
		}
	} else {
		val, known := c.evaluate(expr)
		if !known {
			return false
		}
		if t := val.Type(); !t.IsObjectType() && !t.IsMapType() {
			return c.mismatch(val, dst.Type(), expr.Range())
		}
		for key, v := range val.Elements() {
			var value string
			ok = c.scalar(reflect.ValueOf(&value).Elem(), v, expr.Range()) && ok
			entries[key.AsString()] = value
		}
	}
	dst.Set(reflect.ValueOf(entries))
	return ok
}

// isScalar reports whether t is filled from one value that is not a list or a map.
func isScalar(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		return true
	}
	return false
}

// scalar sets dst, whose type isScalar, to val.
func (c *conversion) scalar(dst reflect.Value, val cty.Value, rng hcl.Range) bool {
	if val.IsNull() {
		c.errorf(rng, "Value is null", "An element of %s is null; remove it.", c.name)
		return false
	}
	if !val.Type().IsPrimitiveType() {
		return c.mismatch(val, dst.Type(), rng)
	}
	if c.secret && val.Type() == cty.Number {
		c.errorf(rng, "Secret is not quoted", "%s is a number, which loses leading zeros; use a string in quotes.", c.name)
		return false
	}
	if u, ok := dst.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return c.unmarshal(u, val, dst.Type(), rng)
	}
	if dst.Type() == reflect.TypeFor[time.Duration]() {
		return c.duration(dst, val, rng)
	}
	switch dst.Kind() {
	case reflect.String:
		dst.SetString(text(val))
		return true
	case reflect.Bool:
		if b, ok := boolean(val); ok {
			dst.SetBool(b)
			return true
		}
	case reflect.Int, reflect.Int64:
		if n, ok := number(val); ok && n.IsInt() {
			if i, accuracy := n.Int64(); accuracy == big.Exact && !dst.OverflowInt(i) {
				dst.SetInt(i)
				return true
			}
		}
	case reflect.Float64:
		if n, ok := number(val); ok {
			if f, _ := n.Float64(); !math.IsInf(f, 0) {
				dst.SetFloat(f)
				return true
			}
		}
	}
	return c.mismatch(val, dst.Type(), rng)
}

func (c *conversion) unmarshal(dst encoding.TextUnmarshaler, val cty.Value, t reflect.Type, rng hcl.Range) bool {
	s := text(val)
	kind := describe(t)
	if s == "" && kind.example != "" { // the types of netip accept "" as their zero value
		return c.mismatch(val, t, rng)
	}
	err := dst.UnmarshalText([]byte(s))
	if prefix, ok := dst.(*netip.Prefix); ok && prefix.Addr().Is4In6() { // it is compared with unmapped addresses
		return c.mismatch(val, t, rng)
	}
	switch {
	case err == nil:
		return true
	case kind.example != "":
		return c.mismatch(val, t, rng)
	case c.secret:
		c.errorf(rng, "Value is not accepted", "%s is not valid; its value is not shown.", c.name)
	default:
		c.errorf(rng, "Value is not accepted", "%s is %s: %v.", c.name, show(val), err)
	}
	return false
}

func (c *conversion) duration(dst reflect.Value, val cty.Value, rng hcl.Range) bool {
	t := dst.Type()
	if n, ok := number(val); ok {
		nanoseconds, _ := new(big.Float).Mul(n, big.NewFloat(1e9)).Int64() // saturates
		switch {
		case n.Sign() < 0:
			c.mismatchAs("Duration is negative", val, t, rng)
			return false
		case nanoseconds == math.MaxInt64:
			c.mismatchAs("Duration is too long", val, t, rng)
			return false
		}
		dst.SetInt(nanoseconds)
		return true
	}
	d, err := parseDuration(text(val))
	switch {
	case err != nil:
		return c.mismatch(val, t, rng)
	case d < 0:
		c.mismatchAs("Duration is negative", val, t, rng)
		return false
	}
	dst.SetInt(int64(d))
	return true
}

// parseDuration is time.ParseDuration with whole days of 24 hours in addition, before all other units: "5d", "1d12h".
func parseDuration(s string) (time.Duration, error) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	d := time.Duration(n) * 24 * time.Hour
	if err != nil || rest == "" {
		return d, err
	}
	more, err := time.ParseDuration(rest)
	if strings.ContainsAny(rest, "+-") || d+more < 0 {
		return 0, strconv.ErrRange
	}
	return d + more, err
}

// mismatch reports that the type t cannot hold val, and returns false.
func (c *conversion) mismatch(val cty.Value, t reflect.Type, rng hcl.Range) bool {
	c.mismatchAs("Not "+describe(t).noun, val, t, rng)
	return false
}

func (c *conversion) mismatchAs(summary string, val cty.Value, t reflect.Type, rng hcl.Range) {
	seen := show(val)
	if c.secret && val.Type().IsPrimitiveType() {
		seen = "something else (not shown)"
	}
	c.errorf(rng, summary, "%s is %s; %s is accepted.", c.name, seen, describe(t).accepted())
}

func (c *conversion) errorf(rng hcl.Range, summary, format string, args ...any) {
	c.diags = append(c.diags, Errorf(rng, summary, format, args...))
}

// text returns a primitive value as HCL's templates write it.
func text(val cty.Value) string {
	switch val.Type() {
	case cty.Number:
		return val.AsBigFloat().Text('f', -1)
	case cty.Bool:
		if val.True() {
			return "true"
		}
		return "false"
	}
	return val.AsString()
}

func number(val cty.Value) (*big.Float, bool) {
	switch val.Type() {
	case cty.Number:
		return val.AsBigFloat(), true
	case cty.String:
		if n, err := cty.ParseNumberVal(val.AsString()); err == nil && !tooLong(n.AsBigFloat()) {
			return n.AsBigFloat(), true
		}
	}
	return nil, false
}

func boolean(val cty.Value) (value, ok bool) {
	if val.Type() == cty.Bool {
		return val.True(), true
	}
	switch text(val) {
	case "yes", "on", "true", "1":
		return true, true
	case "no", "off", "false", "0":
		return false, true
	}
	return false, false
}

// show returns val as a diagnostic shows it.
func show(val cty.Value) string {
	switch t := val.Type(); {
	case t == cty.String:
		s := val.AsString()
		if short := []rune(s); len(short) > 60 {
			s = string(short[:60]) + "…"
		}
		return fmt.Sprintf("%q", s)
	case t.IsPrimitiveType():
		return text(val)
	case t.IsListType() || t.IsSetType() || t.IsTupleType():
		return fmt.Sprintf("a list of %d values", val.LengthInt())
	}
	return "a map"
}

// unknownVariables reports references to names that have no value. HCL's own message says neither that a top-level attribute is not
// set, nor that text needs quotation marks.
func unknownVariables(expr hcl.Expression, ctx *hcl.EvalContext) hcl.Diagnostics {
	if ctx == nil {
		return nil
	}
	var diags hcl.Diagnostics
	for _, traversal := range expr.Variables() {
		name := traversal.RootName()
		known := false
		for scope := ctx; scope != nil && !known; scope = scope.Parent() {
			_, known = scope.Variables[name]
		}
		rng := traversal.SourceRange()
		switch {
		case known:
		case name == "hostname" || name == "state_dir":
			diags = append(diags, WithHint(
				Errorf(rng, "Variable has no value", "%s refers to the top-level attribute of that name, which this file does not set.", name),
				fmt.Sprintf(`add a line such as: %s = "…"`, name)))
		default:
			diags = append(diags, WithHint(
				Errorf(rng, "Unknown variable", "There is no variable named %q.", name),
				"put text in quotation marks; the variables are hostname, state_dir and local.NAME"))
		}
	}
	return diags
}

// explainCall returns the error of our own function instead of HCL's wrapping of it.
func explainCall(diag *hcl.Diagnostic) (*hcl.Diagnostic, bool) {
	extra, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](diag)
	if !ok || extra.FunctionCallError() == nil {
		return nil, false
	}
	failed, ok := extra.FunctionCallError().(*callError)
	if !ok {
		return nil, false
	}
	rng := diag.Subject
	if diag.Context != nil {
		rng = diag.Context // the whole call
	}
	own := &hcl.Diagnostic{Severity: diag.Severity, Summary: failed.summary, Detail: failed.detail, Subject: rng}
	if failed.hint != "" {
		own = WithHint(own, failed.hint)
	}
	return own, true
}
