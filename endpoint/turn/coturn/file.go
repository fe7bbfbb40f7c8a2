// Package coturn translates coturn's configuration, turnserver.conf, into ours, and ours into coturn's.
package coturn

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxSize limits the size of a configuration file in bytes, and maxLines the number of its directives.
const (
	maxSize  = 1 << 20
	maxLines = 10000
)

// separators are the characters between a name and its value: any number of them, in any order.
const separators = " =\t"

// blanks are the characters of C's isspace, which coturn strips from the ends of a line. Others, such as a no-break space, are part
// of the value.
const blanks = " \t\n\v\f\r"

// A Directive is one line of turnserver.conf.
type Directive struct {
	Line  int // from 1
	Name  string
	Value string // empty if there is none
}

// Parse reads the directives as coturn does: one per line. The name ends at the first blank or "="; after all blanks and "=", the
// value follows, optionally in double quotes. Lines that begin with # are comments. The error says what is too large.
func Parse(r io.Reader) ([]Directive, error) {
	limited := &io.LimitedReader{R: r, N: maxSize + 1}
	scanner := bufio.NewScanner(limited)
	scanner.Buffer(nil, maxSize+1)
	var directives []Directive
	for number := 1; scanner.Scan(); number++ {
		line := scanner.Text()
		if number == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		line = strings.Trim(line, blanks)
		if line == "" || line[0] == '#' {
			continue
		}
		if len(directives) == maxLines {
			return nil, fmt.Errorf("more than %d directives", maxLines)
		}
		d := Directive{Line: number, Name: line}
		if i := strings.IndexAny(line, separators); i >= 0 {
			d.Name, d.Value = line[:i], strings.TrimLeft(line[i:], separators)
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
