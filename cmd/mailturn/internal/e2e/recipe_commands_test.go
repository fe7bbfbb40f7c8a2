package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// simpleCommands returns the words of each command of a script, without sudo, assignments and comments. It knows quotes and
// continued lines, and of operators only those that end a command.
func simpleCommands(script string) (commands [][]string) {
	var (
		words []string
		word  strings.Builder
		quote rune
		some  bool // the word is there, if only as ""
	)
	endWord := func() {
		if some {
			words = append(words, word.String())
		}
		word.Reset()
		some = false
	}
	end := func() {
		endWord()
		for len(words) > 0 && (words[0] == "sudo" || assignment.MatchString(words[0])) {
			words = words[1:]
		}
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	comment := false
	for _, r := range strings.ReplaceAll(script, "\\\n", " ") {
		switch {
		case comment && r != '\n':
		case r == '\n' && quote == 0:
			comment = false
			end()
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, some = r, true
		case quote != 0:
			word.WriteRune(r)
		case r == ' ':
			endWord()
		case strings.ContainsRune("|&;", r):
			end()
		case r == '#' && !some:
			comment = true
		default:
			word.WriteRune(r)
			some = true
		}
	}
	end()
	return commands
}

var assignment = regexp.MustCompile(`^[A-Za-z_]+=`)

// unknownToMailturn returns the error of mailturn, asked for help on the command, about its name and flags.
func unknownToMailturn(args []string) (wrong []string) {
	out, err := exec.Command(binary, append(slices.Clone(args), "--help")...).CombinedOutput()
	if err != nil {
		return []string{fmt.Sprintf("mailturn %v: %v\n%s", args, err, out)}
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && !strings.Contains(string(out), "\n  mailturn "+args[0]) {
		return []string{fmt.Sprintf("mailturn has no command %s", args[0])}
	}
	return nil
}

// TestUnknownToMailturn is the control of TestCommandsInText.
func TestUnknownToMailturn(t *testing.T) {
	for script, unknown := range map[string]bool{
		"mailturn run": false,
		"sudo mailturn check-config --strict x # and 'comment": false,
		"mailturn rum":             true,
		"mailturn run --verbosely": true,
		"mailturn probe --lode 20 turn:127.0.0.1 | true": true,
		"X=y sudo mailturn exprot dovecot | sudo tee":    true,
		"mailturn reference \\\n  'rum; mailturn rum'":   false,
	} {
		words := simpleCommands(script)[0]
		if got := unknownToMailturn(words[1:]); (len(got) > 0) != unknown {
			t.Errorf("%s: got %q; unknown: want %v", script, got, unknown)
		}
	}
}

var inText = regexp.MustCompile("`((?:sudo )?mailturn [^`]*)`")

// TestCommandsInText checks that each command of mailturn that a document mentions in a sentence, a table or a transcript exists,
// with its flags.
func TestCommandsInText(t *testing.T) {
	t.Parallel()
	for document, blocks := range readDocuments(t) {
		text, err := os.ReadFile(filepath.Join("../../../..", document))
		if err != nil {
			t.Fatal(err)
		}
		var scripts []string
		for _, found := range inText.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\n", " "), -1) {
			scripts = append(scripts, strings.NewReplacer("[", "", "]", "", "…", "").Replace(found[1])) // [--config FILE] may be left out
		}
		for _, b := range blocks {
			for line := range strings.SplitSeq(b.Text, "\n") {
				if command, found := strings.CutPrefix(line, "$ mailturn"); found && isOutput(b) {
					scripts = append(scripts, "mailturn"+command)
				}
			}
		}
		for _, script := range scripts {
			for _, words := range simpleCommands(script) {
				for _, wrong := range unknownToMailturn(words[1:]) {
					t.Errorf("%s: %s: %s", document, script, wrong)
				}
			}
		}
	}
}
