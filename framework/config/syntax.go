package config

import (
	"bytes"
	"regexp"
)

// Syntax is the language that a configuration file is written in.
type Syntax int

const (
	HCL        Syntax = iota // name = expression
	Directives               // name argument argument …, as maddy has it
)

func (s Syntax) String() string {
	if s == Directives {
		return "directives"
	}
	return "HCL"
}

// sign is the form of a line that is typical of one syntax, and its weight. Headers of blocks and definitions have more weight than
// single settings: a mistake in one setting must not change how the whole file is read.
type sign struct {
	syntax Syntax
	weight int
	line   *regexp.Regexp
}

// The first sign that fits a line counts. Lines that fit none, such as `tls {` and `}`, are the same in both syntaxes.
var signs = []sign{
	{Directives, 3, regexp.MustCompile(`^\$\([\w.-]+\)\s*=`)},                                             // $(name) = value
	{Directives, 3, regexp.MustCompile(`^\([\w.-]+\)\s*\{`)},                                              // (name) {
	{Directives, 3, regexp.MustCompile(`^[A-Za-z][\w-]*\.[\w.-]+\s+[^\s=]|^[A-Za-z][\w-]*\.[\w.-]+\s*$`)}, // endpoint.imap …
	{HCL, 1, regexp.MustCompile(`^[\pL_][\pL\d_-]*\s*=([^=>]|$)`)},                                        // name = value
	{HCL, 1, regexp.MustCompile(`^(//|/\*)`)},                                                             // comments that directives do not have
	{HCL, 2, regexp.MustCompile(`^[\pL_][\pL\d_-]*(\s+"[^"]*")+\s*\{`)},                                   // endpoint "turn" "turn" {
	{Directives, 2, regexp.MustCompile(`^[A-Za-z][\w-]*\s+[\w$/{\[].*\s\{\s*(#.*)?$`)},                    // imap tls://0.0.0.0:993 {
	{Directives, 1, regexp.MustCompile(`^[A-Za-z][\w-]*\s+["\w$/.~]`)},                                    // hostname example.org
	{Directives, 1, regexp.MustCompile(`^[A-Za-z][\w-]*\s+\{env:`)},                                       // hostname {env:HOST}
}

// DetectSyntax returns the syntax of src, even if src has errors: it looks for lines that are typical of one syntax, and the syntax
// with more weight wins. A file without such lines, or with equal weight for both, is HCL.
func DetectSyntax(src []byte) Syntax {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	var weights [2]int
	var heredocEnd []byte
	for line := range bytes.Lines(src) {
		line = bytes.TrimSpace(line)
		if heredocEnd != nil {
			if bytes.Equal(line, heredocEnd) {
				heredocEnd = nil
			}
			continue
		}
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		for _, sign := range signs {
			if sign.line.Match(line) {
				weights[sign.syntax] += sign.weight
				break
			}
		}
		if opening := heredocLine.FindSubmatch(line); opening != nil {
			heredocEnd = opening[1]
		}
	}
	if weights[Directives] > weights[HCL] {
		return Directives
	}
	return HCL
}

var heredocLine = regexp.MustCompile(`=.*<<-?([\w-]+)$`)
