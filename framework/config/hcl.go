package config

import (
	"bytes"
	"math/big"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// The parser and the evaluator of HCL are recursive and unbounded: half a megabyte of brackets or minus signs overflows
// the stack, which ends the process. These bounds keep the recursion below 50,000 calls.
const (
	maxNesting    = 100 // brackets, braces and template sequences inside each other
	maxExpression = 500 // tokens of one level between two commas or lines, texts not counted
)

// parseHCL parses src. The body is nil if that is not possible. An endpoint without a name gets its kind as its name.
func parseHCL(filename string, src []byte, s *sources) (hcl.Body, hcl.Diagnostics) {
	if diag := checkTokens(filename, src, s); diag != nil {
		return nil, hcl.Diagnostics{diag}
	}
	file, diags := hclsyntax.ParseConfig(src, filename, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, explainSyntax(diags, src)
	}
	body := file.Body.(*hclsyntax.Body)
	if diags := checkNumbers(body); diags.HasErrors() {
		return nil, diags
	}
	if diags := meter(body, &budget{left: maxEvaluated}); diags.HasErrors() {
		return nil, diags
	}
	for _, block := range body.Blocks {
		if block.Type == "endpoint" && len(block.Labels) == 1 {
			block.Labels = append(block.Labels, block.Labels[0])
			block.LabelRanges = append(block.LabelRanges, block.LabelRanges[0])
		}
	}
	return body, diags
}

// explainSyntax replaces the diagnostics of the most common mistakes with words for an operator. HCL reads what follows an unclosed
// quotation mark as text, and reports an error for each line of it.
func explainSyntax(diags hcl.Diagnostics, src []byte) hcl.Diagnostics {
	for i, diag := range diags {
		switch diag.Summary {
		case "Invalid multi-line string":
			return append(diags[:i:i], Errorf(*diag.Subject, "Quotation mark is not closed",
				"This line has one too few or one too many."))
		case "Invalid number literal":
			WithHint(diag, `put an address in quotation marks: "198.51.100.7"`)
		case "Missing newline after argument":
			if isDuration(src, diag.Subject.Start.Byte) {
				return append(diags[:i:i], WithHint(Errorf(*diag.Subject, "Duration is not quoted",
					"A number with a unit must be in quotation marks; a bare number is a number of seconds."), `write "24h" or "5d"`))
			}
		}
	}
	return diags
}

var (
	numberAtEnd = regexp.MustCompile(`=[ \t]*[0-9.]+$`)
	unitAtStart = regexp.MustCompile(`^(?:d|h|m|s|ms|us|µs|ns)(?:[0-9]|\s|$)`)
)

// isDuration reports whether a unit of time begins at an offset of src, right after the number of an attribute.
func isDuration(src []byte, offset int) bool {
	line := src[bytes.LastIndexByte(src[:offset], '\n')+1 : offset]
	return numberAtEnd.Match(line) && unitAtStart.Match(src[offset:])
}

// checkTokens refuses a source that is nested too deeply, has an expression that is too long, or does not pass CheckText.
func checkTokens(filename string, src []byte, s *sources) *hcl.Diagnostic {
	tokens, _ := hclsyntax.LexConfig(src, filename, hcl.InitialPos)
	type level struct {
		tokens int
		lines  bool // a line break ends an expression here
	}
	levels := []level{{lines: true}}
	for _, token := range tokens {
		if diag := checkToken(token); diag != nil {
			s.secrets = append(s.secrets, token.Range) // what it is for is not known
			return diag
		}
		top := &levels[len(levels)-1]
		switch token.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			top.tokens++
			levels = append(levels, level{lines: token.Type == hclsyntax.TokenOBrace})
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd:
			if len(levels) > 1 {
				levels = levels[:len(levels)-1]
			}
		case hclsyntax.TokenComma:
			top.tokens = 0
		case hclsyntax.TokenNewline:
			if top.lines {
				top.tokens = 0
			}
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenComment:
		default:
			top.tokens++
		}
		if len(levels) > maxNesting {
			return Errorf(token.Range, "Nested too deeply", "Brackets are nested more than %d levels deep.", maxNesting)
		}
		if top.tokens > maxExpression {
			return Errorf(token.Range, "Expression is too long", "The expression has more than %d operators and operands.", maxExpression)
		}
	}
	return nil
}

// checkNumbers refuses a number such as 1e999999999, which would take a gigabyte to write out.
func checkNumbers(body *hclsyntax.Body) hcl.Diagnostics {
	return hclsyntax.VisitAll(body, func(node hclsyntax.Node) hcl.Diagnostics {
		if literal, ok := node.(*hclsyntax.LiteralValueExpr); ok && literal.Val.Type() == cty.Number && tooLong(literal.Val.AsBigFloat()) {
			return hcl.Diagnostics{Errorf(literal.SrcRange, "Number is too large", "It has more than %d bits.", maxNumberBits)}
		}
		return nil
	})
}

// maxNumberBits bounds the length of a number that is written out. The largest float64 has 1024 bits.
const maxNumberBits = 1024

func tooLong(n *big.Float) bool {
	exponent := n.MantExp(nil)
	return n.IsInf() || exponent > maxNumberBits || exponent < -maxNumberBits
}
