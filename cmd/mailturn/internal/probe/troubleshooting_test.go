package probe

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/framework/resolver"
	"github.com/mailturn/mailturn/imapext/discovery"
)

// TestTroubleshooting checks that docs/troubleshooting.md explains every verdict, warning, failure and omission that this package can
// report, in its words, and nothing else.
func TestTroubleshooting(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## What probe says\n")
	if !found {
		t.Fatal("the page has no section on probe")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var explained []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.*) \\| (.*) \\|$").FindAllStringSubmatch(section, -1) {
		explained = append(explained, row[1])
		if row[2] == "" || row[3] == "" {
			t.Errorf("%s: the row names no cause or no remedy", row[1])
		}
	}
	said := verdicts(t)
	if len(said) < 70 {
		t.Errorf("the source has only %d verdicts", len(said))
	}
	for _, text := range said {
		if !slices.Contains(explained, text) {
			t.Errorf("docs/troubleshooting.md has no row for `%s`", text)
		}
	}
	for _, err := range []error{
		resolver.ErrNXDOMAIN, resolver.ErrNoData, resolver.ErrTimeout,
		discovery.ErrBadValue, discovery.ErrHostname, discovery.ErrPort, discovery.ErrTimestamp,
	} {
		if !strings.Contains(section, "`"+err.Error()+"`") {
			t.Errorf("docs/troubleshooting.md does not mention %q, which a verdict may contain", err)
		}
	}
	for i, text := range explained {
		if !slices.Contains(said, text) {
			t.Errorf("docs/troubleshooting.md has a row for `%s`, which probe does not say", text)
		}
		if slices.Contains(explained[:i], text) {
			t.Errorf("docs/troubleshooting.md has two rows for `%s`", text)
		}
	}
}

// verdicts returns the texts of all verdicts, warnings, failures and omissions in the source of this package, sorted, with … for what
// varies. Where a text is a variable, it is that of the functions whose result has the name summary or problem.
func verdicts(t *testing.T) (texts []string) {
	t.Helper()
	add := func(e ast.Expr) {
		if text := strings.TrimSuffix(template(e), "."); strings.Trim(text, "…") != "" {
			texts = append(texts, text)
		}
	}
	for _, f := range parsePackage(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				switch called, ok := n.Fun.(*ast.SelectorExpr); {
				case !ok:
				case called.Sel.Name == "add" && len(n.Args) == 5 && bad(n.Args[2]):
					add(n.Args[3])
				case called.Sel.Name == "notTested":
					add(n.Args[0])
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Text" {
					add(n.Value)
				}
			case *ast.FuncDecl:
				result := slices.IndexFunc(resultNames(n), func(name string) bool { return name == "summary" || name == "problem" })
				if result < 0 {
					break
				}
				ast.Inspect(n, func(n ast.Node) bool {
					if r, ok := n.(*ast.ReturnStmt); ok && (result == 0 || bad(r.Results[0])) {
						add(r.Results[result])
					}
					return true
				})
			}
			return true
		})
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// parsePackage parses the files of this package that are not tests.
func parsePackage(t *testing.T) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// bad reports whether an expression is a status that makes a verdict, or a variable that may hold one.
func bad(status ast.Expr) bool {
	name, ok := status.(*ast.Ident)
	return ok && (name.Name == "Failure" || name.Name == "Warning" || name.Name == "status")
}

func resultNames(f *ast.FuncDecl) (names []string) {
	if f.Type.Results == nil {
		return nil
	}
	for _, field := range f.Type.Results.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

var verb = regexp.MustCompile(`%[+#]?[a-z]`)

// template returns the text of an expression, with … for what is not a literal.
func template(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return text
		}
	case *ast.BinaryExpr:
		return template(e.X) + template(e.Y)
	case *ast.CallExpr:
		if called, ok := e.Fun.(*ast.SelectorExpr); ok && called.Sel.Name == "Sprintf" {
			return verb.ReplaceAllString(strings.ReplaceAll(template(e.Args[0]), "%%", "%"), "…")
		}
	}
	return "…"
}
