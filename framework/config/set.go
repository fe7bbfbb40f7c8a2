package config

import (
	"reflect"

	"github.com/hashicorp/hcl/v2"
)

// Set is an attribute or a block that a file has.
type Set struct {
	Name  string    // "realm", or "peers.allow" for an attribute in a block
	Range hcl.Range // of the value, or of the block's header
}

// Set returns the attributes and blocks of schema, which is a struct as Decode describes it, that the endpoint's body has, in the
// order of the fields.
func (e Endpoint) Set(schema any) []Set { return setIn(e.Body, reflect.TypeOf(schema), "") }

func setIn(body hcl.Body, schema reflect.Type, within string) (found []Set) {
	content, _ := body.Content(schemaOf(schema)) // Decode has reported the errors
	for _, f := range fieldsOf(schema) {
		switch f.role {
		case attributeField:
			if attr := content.Attributes[f.name]; attr != nil {
				found = append(found, Set{within + f.name, attr.Expr.Range()})
			}
		case blockField:
			for _, block := range content.Blocks.OfType(f.name) {
				found = append(found, Set{within + f.name, block.DefRange})
				found = append(found, setIn(block.Body, f.typ, within+f.name+".")...)
			}
		}
	}
	return found
}
