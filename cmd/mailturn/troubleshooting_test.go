package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
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

// withoutAction are the warnings that do not require anything of an operator. docs/troubleshooting.md omits them.
var withoutAction = []string{
	"cannot make a policy of peers", // mailturn tries again
	"closing the control socket",
	"leaving a socket with the service manager",
	"new addresses of this machine will be noticed late", // within the period in which mailturn looks itself
	"other machines may send calls to this one for a few more seconds: Redis was not told that it stops",
	"socket from the service manager not used", // mailturn opens another
	"taking a socket back from the service manager",
	"telling the service manager",
	"the record of relayed ports was refused: those of the last process may be used again too soon",
	"unknown descriptor from the service manager closed",
}

// TestLogIsExplained checks that docs/troubleshooting.md explains every error that the log may have, and every warning but those
// withoutAction, and that each message it explains is one of the log.
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
	logged := make(map[string]slog.Level) // by message
	for _, dir := range []string{".", "../../endpoint", "../../framework", "../../imapext", "../../turnsrv"} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			return collectMessages(path, logged)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for message, level := range logged {
		if level >= slog.LevelWarn && !slices.Contains(explained, message) && !slices.Contains(withoutAction, message) {
			t.Errorf("docs/troubleshooting.md has no row for `%s`, at level %v", message, level)
		}
	}
	for _, message := range withoutAction {
		if level, ok := logged[message]; !ok || level != slog.LevelWarn {
			t.Errorf("%q is no warning of the log", message)
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

// levels are those of the methods of a logger.
var levels = map[string]slog.Level{
	"Error": slog.LevelError, "Warn": slog.LevelWarn, "Info": slog.LevelInfo, "Debug": slog.LevelDebug, "Log": slog.LevelDebug,
}

// collectMessages adds the messages that the file at path logs, with the highest level that it names for each.
func collectMessages(path string, logged map[string]slog.Level) error {
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
		if !ok {
			return true
		}
		level, ok := levels[method.Sel.Name]
		if !ok {
			return true
		}
		for _, arg := range call.Args { // the message is the first text
			if constant, ok := arg.(*ast.SelectorExpr); ok && method.Sel.Name == "Log" {
				level = max(level, levels[strings.TrimPrefix(constant.Sel.Name, "Level")])
			}
			if _, ok := arg.(*ast.BinaryExpr); ok { // a message that is put together
				break
			}
			message, ok := arg.(*ast.BasicLit)
			if !ok {
				continue
			}
			if text, err := strconv.Unquote(message.Value); err == nil {
				if before, ok := logged[text]; ok {
					level = max(level, before)
				}
				logged[text] = level
			}
			break
		}
		return true
	})
	return nil
}
