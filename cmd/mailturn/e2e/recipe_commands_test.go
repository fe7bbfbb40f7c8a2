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

	"github.com/mailturn/mailturn/cmd/mailturn/e2e/recipe"
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

// wrongCommands returns what is wrong with the commands of a script: programs, commands of mailturn and flags that do not exist.
func wrongCommands(t *testing.T, script string) (wrong []string) {
	t.Helper()
	if out, err := exec.Command("bash", "-n", "-c", script).CombinedOutput(); err != nil {
		return []string{string(out)}
	}
	for _, words := range simpleCommands(script) {
		switch program := words[0]; {
		case program == "mailturn":
			wrong = append(wrong, unknownToMailturn(words[1:])...)
		case program == "go" && slices.Equal(words[1:3], []string{"run", "./cmd/mailturn"}):
			wrong = append(wrong, unknownToMailturn(words[3:])...)
		case program == "go" && words[1] == "run":
			goRun := exec.Command("go", slices.Concat(words[1:], []string{"-h"})...)
			goRun.Dir = "../../.."
			if out, err := goRun.CombinedOutput(); err != nil || !strings.Contains(string(out), "Usage of") {
				wrong = append(wrong, fmt.Sprintf("%v: %v\n%s", words, err, out))
			}
		case strings.Contains(program, "/"):
			info, err := os.Stat(filepath.Join("../../..", program))
			if err != nil || info.Mode()&0o111 == 0 {
				wrong = append(wrong, fmt.Sprintf("%s cannot be executed (%v)", program, err))
			}
		default:
			if _, err := exec.LookPath(program); err != nil {
				wrong = append(wrong, err.Error())
			}
		}
	}
	return wrong
}

// unknownToMailturn returns what mailturn, which is asked to explain the command, has against its name and flags.
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

// commandsExist is for commands that other tests run, or that need the internet.
func commandsExist(t *testing.T, _ documents, b recipe.Block) {
	for _, wrong := range wrongCommands(t, b.Text) {
		t.Errorf("line %d: %s", b.Line, wrong)
	}
	command := simpleCommands(b.Text)[0]
	worked(t, b, "bash "+programVersion(t, "bash", "--version"), "not run: "+strings.Join(command[:min(len(command), 3)], " ")+" exists, and so do its flags",
		"unknown command; unknown flag")
}

// TestWrongCommands is the control of commandsExist.
func TestWrongCommands(t *testing.T) {
	for script, wrong := range map[string]bool{
		"mailturn run": false,
		"sudo mailturn check-config --strict x # and 'comment": false,
		"mailturn rum":             true,
		"mailturn run --verbosely": true,
		"true | mailturn probe --lode 20 turn:127.0.0.1": true,
		"X=y sudo mailturn exprot dovecot | sudo tee":    true,
		"echo 'mailturn rum; mailturn rum' | cat":        false,
		"echo 'mailturn run":                             true,
		"no-such-program x":                              true,
		"go run ./cmd/mailturn rum":                      true,
		"go run ./cmd/mailturn/bench/soak -duration 1h":  false,
		"go run ./cmd/mailturn/bench/soak -length 1h":    true,
		".ci/no-such-script":                             true,
		"cat -y -m 2 \\\n  -n 20 | mailturn reference":   false,
	} {
		if got := wrongCommands(t, script); (len(got) > 0) != wrong {
			t.Errorf("%s: got %q; wrong: want %v", script, got, wrong)
		}
	}
}

var inText = regexp.MustCompile("`((?:sudo )?mailturn [^`]*)`")

// TestCommandsInText wants each command of mailturn that a document mentions in a sentence, a table or a transcript to exist, with
// its flags.
func TestCommandsInText(t *testing.T) {
	for document, blocks := range readDocuments(t) {
		text, err := os.ReadFile(filepath.Join("../../..", document))
		if err != nil {
			t.Fatal(err)
		}
		var scripts []string
		for _, found := range inText.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\n", " "), -1) {
			scripts = append(scripts, strings.NewReplacer("[", "", "]", "", "…", "").Replace(found[1])) // [--config FILE] may be left out
		}
		for _, b := range blocks {
			for _, line := range strings.Split(b.Text, "\n") {
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
