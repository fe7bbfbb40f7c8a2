package config

// Syntax is the language that a configuration file is written in.
type Syntax int

const (
	HCL        Syntax = iota // name = expression
	Directives               // name argument argument …
)

func (s Syntax) String() string {
	if s == Directives {
		return "directives"
	}
	return "HCL"
}

// DetectSyntax tells the syntax of src.
func DetectSyntax(src []byte) Syntax { return HCL }
