package directive

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config/internal/diagnostic"
)

const (
	maxImports  = 32      // imports inside each other
	maxExpanded = 4 << 20 // bytes of all files, and of all words after macros and imports are expanded
	maxReported = 100     // errors and warnings, after which expansion ends: they multiply with the imports
)

// expander replaces what the directive syntax can abbreviate: macros, snippets, imports and environment variables.
type expander struct {
	texts    map[string][]byte // of the files that were read, by the name that ranges have
	macros   map[string]macro
	snippets map[string]*directive
	imports  []string // being expanded: the outermost first
	expanded int
	diags    hcl.Diagnostics
}

type macro struct {
	values []string
	rng    hcl.Range
}

// expand parses src and expands it. texts are the files that it read.
func expand(filename string, src []byte) (directives []*directive, texts map[string][]byte, diags hcl.Diagnostics) {
	x := expander{
		texts: make(map[string][]byte), macros: make(map[string]macro), snippets: make(map[string]*directive),
		imports: []string{"file " + filepath.Clean(filename)},
	}
	directives = x.file(filename, src)
	return directives, x.texts, x.diags
}

// file parses and expands one file. A snippet can be used before its definition, a macro only after it.
func (x *expander) file(filename string, src []byte) []*directive {
	x.texts[filename] = src
	if !x.spend(len(src), hcl.Range{Filename: filename}) {
		return nil
	}
	words, diags := lex(filename, src)
	x.diags = append(x.diags, diags...)
	if diags.HasErrors() {
		return nil
	}
	directives, diags := parse(words)
	x.diags = append(x.diags, diags...)
	if diags.HasErrors() {
		return nil
	}
	var rest []*directive
	for _, d := range directives {
		if name, ok := snippetName(d); ok {
			x.defineSnippet(name, d)
		} else {
			rest = append(rest, d)
		}
	}
	return x.all(rest, true)
}

// all expands the directives of a block, or of a file at its top.
func (x *expander) all(directives []*directive, top bool) []*directive {
	var expanded []*directive
	for _, d := range directives {
		if x.expanded <= maxExpanded && len(x.diags) > maxReported {
			x.expanded = maxExpanded + 1
			x.errorf(d.name.rng, "Too many errors", "There are more than %d errors and warnings before this line; the rest is not read.", maxReported)
		}
		if x.expanded > maxExpanded {
			break
		}
		_, isSnippet := snippetName(d)
		isMacro := !d.name.quoted && strings.HasPrefix(d.name.text, "$(")
		switch {
		case (isSnippet || isMacro) && !top:
			x.errorf(d.name.rng, "Definition inside a block", "Macros and snippets are defined at the top level of a file.")
		case isMacro:
			x.defineMacro(d)
		case !d.name.quoted && d.name.text == "import":
			expanded = append(expanded, x.importNamed(d)...)
		case len(d.args) > 0 && d.args[0].is("="):
			x.errorf(d.args[0].rng, "Unexpected =", "There is no = between the name of a directive and its arguments.")
		default:
			expanded = append(expanded, x.directive(d))
		}
	}
	return expanded
}

func (x *expander) directive(d *directive) *directive {
	e := *d
	e.args = nil
	x.spend(len(d.name.text)+1, d.name.rng)
	x.checkText(d.name)
	for _, arg := range d.args {
		for _, text := range x.argument(arg) {
			expanded := word{text: x.environment(text, arg.rng), quoted: arg.quoted, rng: arg.rng}
			x.checkText(expanded)
			e.args = append(e.args, expanded)
		}
	}
	e.block = x.all(d.block, false)
	return &e
}

// checkText refuses a word that HCL would change.
func (x *expander) checkText(w word) {
	if diagnostic.CheckText(w.text) != nil {
		x.diags = append(x.diags, diagnostic.NotPlain(w.rng, "This word"))
	}
}

var (
	macroUse      = regexp.MustCompile(`\$\(([\w.-]+)\)`)
	macroAlone    = regexp.MustCompile(`^\$\(([\w.-]+)\)$`)
	environmental = regexp.MustCompile(`\{env:([^{}\s]+)\}`)
)

func (x *expander) defineMacro(d *directive) {
	name := macroAlone.FindStringSubmatch(d.name.text)
	if name == nil || len(d.args) < 2 || !d.args[0].is("=") || d.hasBlock {
		x.errorf(d.name.rng, "Malformed macro definition", "A macro definition is a line such as: $(name) = value")
		return
	}
	if first, again := x.macros[name[1]]; again {
		x.aboutName(diagnostic.Redefined("Macro", d.name.text, d.name.rng, first.rng))
		return
	}
	m := macro{rng: d.name.rng}
	for _, arg := range d.args[1:] {
		m.values = append(m.values, x.argument(arg)...)
	}
	x.macros[name[1]] = m
}

// argument returns arg with its macros expanded. An argument that is only a macro becomes all values of the macro.
func (x *expander) argument(arg word) []string {
	if alone := macroAlone.FindStringSubmatch(arg.text); alone != nil {
		values := x.macro(alone[1], arg.rng).values
		for _, value := range values {
			x.spend(len(value)+1, arg.rng)
		}
		if x.expanded > maxExpanded {
			return nil
		}
		return values
	}
	text := macroUse.ReplaceAllStringFunc(arg.text, func(use string) string {
		values := x.macro(use[2:len(use)-1], arg.rng).values
		switch {
		case len(values) > 1:
			x.errorf(arg.rng, "Macro has several values", "Inside a word, a macro must have one value; this one has %d.", len(values))
		case len(values) == 1 && x.spend(len(values[0]), arg.rng):
			return values[0]
		}
		return ""
	})
	if !x.spend(1, arg.rng) {
		return nil
	}
	return []string{text}
}

func (x *expander) macro(name string, rng hcl.Range) macro {
	m, ok := x.macros[name]
	if !ok {
		x.errorf(rng, "Unknown macro", "No line above defines a macro of this name.")
	}
	return m
}

// environment expands {env:NAME}, after everything else. As in maddy, a variable that is not set is empty.
func (x *expander) environment(text string, rng hcl.Range) string {
	return environmental.ReplaceAllStringFunc(text, func(use string) string {
		name := environmental.FindStringSubmatch(use)[1]
		value, set := os.LookupEnv(name)
		if !set {
			x.diags = append(x.diags, diagnostic.Warnf(rng, "Environment variable is not set",
				"%s is not in the environment of this process; an empty value is used.", name))
		}
		x.spend(len(value), rng)
		return value
	})
}

var snippetHeader = regexp.MustCompile(`^\(([\w.-]+)\)$`)

// snippetName returns the name of the snippet that d defines, if it defines one.
func snippetName(d *directive) (string, bool) {
	name := snippetHeader.FindStringSubmatch(d.name.text)
	if name == nil || d.name.quoted {
		return "", false
	}
	return name[1], true
}

func (x *expander) defineSnippet(name string, d *directive) {
	switch first, again := x.snippets[name]; {
	case !d.hasBlock || len(d.args) > 0:
		x.errorf(d.name.rng, "Malformed snippet definition", "A snippet definition is a block such as: (name) { … }")
	case again:
		x.aboutName(diagnostic.Redefined("Snippet", name, d.name.rng, first.name.rng))
	default:
		x.snippets[name] = d
	}
}

// importNamed returns the directives of the snippet or else the file that d imports.
func (x *expander) importNamed(d *directive) []*directive {
	if len(d.args) != 1 || d.hasBlock {
		x.errorf(d.header(), "Import requires one name", "import takes the name of a snippet or the path of a file, and no block.")
		return nil
	}
	arg := d.args[0]
	expanded := x.argument(arg)
	if len(expanded) != 1 {
		return nil // an unknown macro, which is reported
	}
	name := x.environment(expanded[0], arg.rng)
	if !x.spend(len(d.name.text)+len(name), arg.rng) { // also one that brings nothing takes its time
		return nil
	}
	if snippet, ok := x.snippets[name]; ok {
		return x.within("snippet "+name, arg.rng, func() []*directive { return x.all(snippet.block, false) })
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(arg.rng.Filename), path)
	}
	src, _, err := bounded.ReadFile(path, bounded.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		if withSuffix, _, err2 := bounded.ReadFile(path+".conf", bounded.MaxFile); !errors.Is(err2, fs.ErrNotExist) {
			path, src, err = path+".conf", withSuffix, err2
		}
	}
	if err != nil {
		x.errorf(arg.rng, "Import not found", "There is no snippet %q, and the file %s cannot be read: %v.", name, path, diagnostic.Reason(err))
		return nil
	}
	return x.within("file "+path, arg.rng, func() []*directive { return x.file(path, src) })
}

// within expands one import, unless it imports itself or is nested too deeply.
func (x *expander) within(name string, rng hcl.Range, expand func() []*directive) []*directive {
	switch {
	case slices.Contains(x.imports, name):
		x.errorf(rng, "Circular import", "The %s imports itself: %s.", name, strings.Join(append(x.imports, name), " imports "))
		return nil
	case len(x.imports) == maxImports:
		x.errorf(rng, "Imports nested too deeply", "Imports are nested more than %d levels deep.", maxImports)
		return nil
	}
	x.imports = append(x.imports, name)
	defer func() { x.imports = x.imports[:len(x.imports)-1] }()
	return expand()
}

// spend counts the bytes that expansion yields. It returns false, with one diagnostic, when there are too many.
func (x *expander) spend(n int, rng hcl.Range) bool {
	within := x.expanded <= maxExpanded
	x.expanded += n
	if within && x.expanded > maxExpanded {
		x.errorf(rng, "Configuration too large after expansion", "With macros and imports expanded, the file has more than %d bytes.", maxExpanded)
	}
	return x.expanded <= maxExpanded
}

func (x *expander) errorf(rng hcl.Range, summary, format string, args ...any) {
	x.diags = append(x.diags, diagnostic.Errorf(rng, summary, format, args...))
}

// aboutName adds a diagnostic about the name of a definition, whose values may be secrets.
func (x *expander) aboutName(d *hcl.Diagnostic) {
	x.diags = append(x.diags, diagnostic.AboutName(d))
}
