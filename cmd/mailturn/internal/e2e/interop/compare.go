package interop

import (
	"fmt"
	"maps"
	"slices"
)

// Difference is what tells the cells of a run from those of docs/interop.md.
type Difference struct {
	Missing []Cell // are in the file, and the run does not have them
	New     []Cell // are in the run alone
	// Versions and Controls have a line for each program whose version, or whose controls, the run and the file tell
	// differently.
	Versions, Controls []string
}

// OK reports whether the file may stay as it is. Other versions do not matter.
func (d Difference) OK() bool {
	return len(d.Missing) == 0 && len(d.New) == 0 && len(d.Controls) == 0
}

// Compare tells the cells of a run from those of the file.
func Compare(file, run []Cell) Difference {
	file, run = Merge(nil, file), Merge(nil, run)
	index := func(cells []Cell) map[key]Cell {
		m := make(map[key]Cell)
		for _, c := range cells {
			m[c.key()] = c
		}
		return m
	}
	var d Difference
	inFile, inRun := index(file), index(run)
	for _, c := range file {
		ran, ok := inRun[c.key()]
		if !ok {
			d.Missing = append(d.Missing, c)
			continue
		}
		if ran.Version != c.Version {
			d.Versions = append(d.Versions, fmt.Sprintf("%v: %s instead of %s", c, ran.Version, c.Version))
		}
		if ran.How != c.How {
			d.Versions = append(d.Versions, fmt.Sprintf("%v: %s instead of %s", c, ran.How, c.How))
		}
	}
	for _, c := range run {
		if _, ok := inFile[c.key()]; !ok {
			d.New = append(d.New, c)
		}
	}
	if len(d.Missing) == 0 && len(d.New) == 0 { // or a row's controls differ for want of a cell
		was, is := controls(file), controls(run)
		for _, row := range slices.Sorted(maps.Keys(was)) {
			if was[row] != is[row] {
				d.Controls = append(d.Controls, fmt.Sprintf("%s: %q instead of %q", row, is[row], was[row]))
			}
		}
	}
	return d
}

// controls returns the controls of each row, by a row's kind, name and way.
func controls(cells []Cell) map[string]string {
	rows := make(map[string][]Cell)
	for _, c := range cells {
		row := c
		row.Transport, row.Family = "", ""
		rows[row.String()] = append(rows[row.String()], c)
	}
	all := make(map[string]string)
	for name, row := range rows {
		all[name] = control(row)
	}
	return all
}
