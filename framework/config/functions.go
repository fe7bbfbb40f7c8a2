package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

// functions returns the functions that expressions can call. Paths are relative to dir.
func functions(dir string) map[string]function.Function {
	return map[string]function.Function{
		"env":  envFunction(),
		"file": fileFunction(dir),
	}
}

// callError is the error of one of our functions, split into the parts of a diagnostic.
type callError struct{ summary, detail, hint string }

func (e *callError) Error() string { return e.detail }

// envFunction is env(name) and env(name, default): an environment variable. The default does not replace a variable that is set to
// the empty string.
func envFunction() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.String},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			value, set := os.LookupEnv(name)
			switch {
			case len(args) > 2:
				return cty.NilVal, &callError{
					summary: "Too many arguments", detail: "env takes the name of a variable and, optionally, a default.",
				}
			case !set && len(args) == 2:
				return args[1], nil
			case !set:
				return cty.NilVal, &callError{
					summary: "Environment variable is not set",
					detail:  fmt.Sprintf("%s is not in the environment of this process.", name),
					hint:    fmt.Sprintf("set it, or give a default: env(%q, \"…\")", name),
				}
			}
			return textValue(value, "The environment variable "+name)
		},
	})
}

// fileFunction is file(path): the text of a file, without the line break at its end.
func fileFunction(dir string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path := args[0].AsString()
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			text, mode, err := bounded.ReadFile(path, bounded.MaxFile)
			if err != nil {
				return cty.NilVal, &callError{summary: "File cannot be read", detail: fmt.Sprintf("%s: %v.", path, diagnostic.Reason(err))}
			}
			value, err := textValue(strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), path)
			if err == nil && mode.Perm()&0o006 != 0 {
				value = value.Mark(openFile{path, mode.Perm()})
			}
			return value, err
		},
	})
}

// openFile marks a value from a file that everybody on the machine can read or write.
type openFile struct {
	path string
	mode fs.FileMode
}

// textValue returns s as a value, or an error if it does not pass CheckText. from names its source.
func textValue(s, from string) (cty.Value, error) {
	if CheckText(s) != nil {
		diag := diagnostic.NotPlain(hcl.Range{}, from)
		hint, _ := diagnostic.Hint(diag)
		return cty.NilVal, &callError{summary: diag.Summary, detail: diag.Detail, hint: hint}
	}
	return cty.StringVal(s), nil
}
