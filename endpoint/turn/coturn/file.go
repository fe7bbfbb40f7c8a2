// Package coturn reads the configuration of coturn, turnserver.conf, and writes it as one of ours, and the other way round.
package coturn

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxSize bounds a configuration file in bytes, and maxLines its directives.
const (
	maxSize  = 1 << 20
	maxLines = 10000
)

// A Directive is one line of turnserver.conf.
type Directive struct {
	Line  int // from 1
	Name  string
	Value string // empty for none
}

// Parse reads the directives as coturn does: one a line, its name up to the first blank or "=", the value what follows,
// perhaps in double quotes. Lines that begin with # are comments. Where there are blanks around "=", coturn takes the "="
// for a part of the value; here it is taken for what was meant.
func Parse(r io.Reader) ([]Directive, error) {
	limited := &io.LimitedReader{R: r, N: maxSize + 1}
	scanner := bufio.NewScanner(limited)
	scanner.Buffer(nil, maxSize+1)
	var directives []Directive
	for number := 1; scanner.Scan(); number++ {
		line := strings.TrimSpace(strings.TrimPrefix(scanner.Text(), "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		if len(directives) == maxLines {
			return nil, fmt.Errorf("more than %d directives", maxLines)
		}
		d := Directive{Line: number, Name: line}
		if i := strings.IndexAny(line, " =\t"); i >= 0 {
			d.Name, d.Value = line[:i], strings.TrimLeft(line[i+1:], " \t")
			if line[i] != '=' {
				d.Value = strings.TrimLeft(strings.TrimPrefix(d.Value, "="), " \t")
			}
		}
		if strings.HasPrefix(d.Value, `"`) {
			d.Value = strings.TrimSuffix(d.Value[1:], `"`)
		}
		directives = append(directives, d)
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("more than %d bytes", maxSize)
	}
	return directives, scanner.Err()
}

// enabled is how coturn reads the value of a directive that is on or off. Without a value it is on.
func (d Directive) enabled() bool {
	switch strings.ToLower(d.Value) {
	case "off":
		return false
	}
	return d.Value == "" || !strings.ContainsRune("0nNfF", rune(d.Value[0]))
}
