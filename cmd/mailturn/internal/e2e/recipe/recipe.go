// Package recipe takes from a document what its readers copy: the blocks of code.
package recipe

import (
	"regexp"
	"strings"
)

// A Block is a block of code in a document.
type Block struct {
	Line    int    // of its first line of code, from 1
	Heading string // that it stands under, without the number signs
	Fenced  bool   // between lines of backticks, not indented
	Text    string // without its indentation; each line ends with a newline
}

// First returns the block's first line.
func (b Block) First() string {
	first, _, _ := strings.Cut(b.Text, "\n")
	return first
}

// codeIndent is by how much more than the text around it code is indented (CommonMark section 4.4).
const codeIndent = 4

var listItem = regexp.MustCompile(`^(?:[-*+]|\d+\.) +`)

// Blocks returns the blocks of a Markdown document, in its order: fenced ones, and those that are indented and follow a blank
// line, also within the items of a list. Lists within lists are not known.
func Blocks(document string) []Block {
	var (
		blocks    []Block
		heading   string
		base      int  // the indentation of text: more than 0 in an item of a list
		inFence   bool // the last block is fenced, and goes on
		open      bool // the last block is indented, and may go on
		blanks    int  // lines since the last one that was not blank
		afterText bool // the last line was text, which an indented line continues
	)
	for i, line := range strings.Split(strings.TrimSuffix(document, "\n"), "\n") {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		last := len(blocks) - 1
		if inFence {
			if inFence = !fence; inFence {
				blocks[last].Text += line + "\n"
			}
			continue
		}
		if fence {
			inFence, open, afterText = true, false, false
			blocks = append(blocks, Block{Line: i + 2, Heading: heading, Fenced: true})
			continue
		}
		if strings.TrimSpace(line) == "" {
			blanks++
			afterText = false
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if indent >= base+codeIndent && !afterText {
			code := line[base+codeIndent:] + "\n"
			if open {
				blocks[last].Text += strings.Repeat("\n", blanks) + code
			} else {
				blocks = append(blocks, Block{Line: i + 1, Heading: heading, Text: code})
			}
			open, blanks = true, 0
			continue
		}
		open, blanks, afterText = false, 0, true
		switch marker := listItem.FindString(line); {
		case marker != "":
			base = len(marker)
		case indent < base:
			base = 0
		}
		if strings.HasPrefix(line, "#") {
			heading, afterText = strings.TrimLeft(line, "# "), false
		}
	}
	return blocks
}
