// Package directive parses the syntax of maddy and Madmail, lines of the form `name argument …` that may open a block, into an
// hcl.Body, which is decoded like HCL.
//
// A file takes four steps: words (lex), directives with their blocks (parse), the same with macros, snippets, imports and
// environment variables replaced (expander), and then translated to mailturn's schema (translate).
package directive

import "github.com/hashicorp/hcl/v2"

// Parse parses src, which was read from the file of that name, into the body that HCL's parser would make of its twin. The
// body is nil if that is not possible.
//
// texts are the files that were read, src and what it imports, by the name that ranges have, even if there are errors.
//
// The attributes of the body are strings, lists of strings and maps, except that an attribute may be nothing but its name: its
// expression has a method ExprFor(reflect.Type) hcl.Expression for callers that know which type they want. A block in an
// endpoint, too, is a map until a schema asks for it as a block.
func Parse(filename string, src []byte) (content hcl.Body, texts map[string][]byte, diags hcl.Diagnostics) {
	directives, texts, diags := expand(filename, src)
	if diags.HasErrors() {
		return nil, texts, diags
	}
	directives, more := translate(directives)
	start := hcl.Range{Filename: filename, Start: hcl.InitialPos, End: hcl.InitialPos}
	return &body{directives: directives, missing: start}, texts, append(diags, more...)
}
