package report

import (
	"fmt"
	"os"
	"strings"
)

// ReplaceSection replaces what is between the lines "<!-- begin NAME -->" and "<!-- end NAME -->" of a Markdown file by text, as a
// code block.
func ReplaceSection(file, name, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->\n"
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		return fmt.Errorf("%s: want the lines %q and %q", file, begin, end)
	}
	return os.WriteFile(file, []byte(before+begin+"\n```\n"+strings.Trim(text, "\n")+"\n```\n\n"+end+after), 0o644)
}
