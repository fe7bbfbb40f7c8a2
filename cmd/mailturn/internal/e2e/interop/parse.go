package interop

import (
	"fmt"
	"strings"
)

// Parse returns the cells of docs/interop.md, as Render wrote it. Each cell of a row has the controls of all of them.
func Parse(text string) ([]Cell, error) {
	var (
		cells   []Cell
		kind    Kind
		columns []string // of the table, between how and control
	)
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			kind, columns = "", nil
			for k, s := range sections {
				if s.heading == title {
					kind = k
				}
			}
			continue
		}
		if !strings.HasPrefix(line, "| ") || kind == "" {
			continue
		}
		fields := strings.Split(line, "|")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		fields = fields[1 : len(fields)-1]
		switch {
		case columns == nil && len(fields) < 4:
			return nil, fmt.Errorf("line %d: the table has %d columns, too few", n, len(fields))
		case columns == nil:
			columns = fields[2 : len(fields)-1]
			continue
		case fields[0] == "---":
			continue
		case len(fields) != len(columns)+3:
			return nil, fmt.Errorf("line %d: %d columns, want %d", n, len(fields), len(columns)+3)
		}
		for i, column := range columns {
			inside, ok := strings.CutPrefix(fields[i+2], works)
			if !ok {
				continue
			}
			c := Cell{Kind: kind, Name: fields[0], How: fields[1], Control: fields[len(fields)-1]}
			c.Version, c.Figures, _ = strings.Cut(strings.TrimSuffix(inside, ")"), "; ")
			if column != result {
				for part := range strings.SplitSeq(column, ", ") {
					if strings.HasPrefix(part, "IP") {
						c.Family = part
					} else {
						c.Transport = part
					}
				}
			}
			if err := c.check(); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			cells = append(cells, c)
		}
	}
	return cells, nil
}
