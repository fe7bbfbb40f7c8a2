package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/framework/listen"
)

// TestLogIsExplained checks that docs/troubleshooting.md explains every error that the log may have, and that each message it explains
// is one of the log.
func TestLogIsExplained(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## What the log says\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var explained []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .+ \\| .+ \\|$").FindAllStringSubmatch(section, -1) {
		explained = append(explained, row[1])
	}
	logged := make(map[string]bool) // whether it is an error, by message
	for _, dir := range []string{".", "../../endpoint", "../../framework", "../../imapext", "../../turnsrv"} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path == "internal": // tools, which are not part of the server
				return filepath.SkipDir
			case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			return collectMessages(path, logged)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for message, isError := range logged {
		if isError && !slices.Contains(explained, message) {
			t.Errorf("docs/troubleshooting.md has no row for the error `%s`", message)
		}
	}
	for _, message := range explained {
		if _, ok := logged[message]; !ok {
			t.Errorf("docs/troubleshooting.md has a row for `%s`, which is never logged", message)
		}
	}
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, quoted := range regexp.MustCompile(`msg="([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			if _, ok := logged[quoted[1]]; !ok {
				t.Errorf("%s quotes the message %q, which is never logged", path, quoted[1])
			}
		}
	}
}

// TestStartErrorsAreExplained checks that docs/troubleshooting.md has the advice of errors with which mailturn does not start.
func TestStartErrorsAreExplained(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range []error{syscall.EADDRINUSE, syscall.EACCES, syscall.EADDRNOTAVAIL} {
		_, advice, _ := strings.Cut(listen.Error(listen.Addr{}, hcl.Range{}, cause).Error(), cause.Error()+": ")
		if advice == "" || !strings.Contains(string(page), "\n| `"+advice+"` | ") {
			t.Errorf("docs/troubleshooting.md has no row for %q", advice)
		}
	}
}

// collectMessages adds the messages that the file at path logs.
func collectMessages(path string, logged map[string]bool) error {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Error", "Warn", "Info", "Debug", "Log"}, method.Sel.Name) {
			return true
		}
		for _, arg := range call.Args { // the message is the first text
			message, ok := arg.(*ast.BasicLit)
			if !ok {
				continue
			}
			if text, err := strconv.Unquote(message.Value); err == nil {
				logged[text] = logged[text] || method.Sel.Name == "Error"
			}
			break
		}
		return true
	})
	return nil
}
