// Package report prints the figures of servers that were measured side by side.
package report

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A Column is one figure of a report.
type Column struct {
	Name   string
	Format string
	Ratio  bool // to the figure of the reference
	Spread bool // of the ratio, which is computed run by run
}

// A Table is the report: a line for each column, with the medians of all servers side by side.
type Table struct {
	Title     string
	Columns   []Column
	Names     []string // of the servers
	Reference string   // the server with which others are compared
	results   map[string]map[string][]float64
}

// Add adds the figure of one run.
func (t *Table) Add(column, name string, figure float64) {
	if t.results == nil {
		t.results = make(map[string]map[string][]float64)
	}
	if t.results[column] == nil {
		t.results[column] = make(map[string][]float64)
	}
	t.results[column][name] = append(t.results[column][name], figure)
}

// Print prints the table for a terminal.
func (t *Table) Print(w io.Writer) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(out, t.Title, "\t")
	for _, name := range t.Names {
		fmt.Fprint(out, name, "\t")
	}
	fmt.Fprintln(out)
	for _, c := range t.Columns {
		if t.results[c.Name] == nil {
			continue
		}
		fmt.Fprint(out, c.Name, "\t")
		beside, _ := t.Figure(c.Name, t.Reference)
		for _, name := range t.Names {
			figure, ok := t.Figure(c.Name, name)
			if !ok {
				fmt.Fprint(out, "-\t")
				continue
			}
			fmt.Fprintf(out, c.Format, figure)
			if ratios := t.ratios(c.Name, name, t.Reference); c.Spread && len(ratios) > 0 && name != t.Reference {
				fmt.Fprintf(out, " (x %.2f, %.2f to %.2f)", Median(ratios), slices.Min(ratios), slices.Max(ratios))
			} else if c.Ratio && beside > 0 && name != t.Reference {
				fmt.Fprintf(out, " (x %.2f)", figure/beside)
			}
			fmt.Fprint(out, "\t")
		}
		fmt.Fprintln(out)
	}
	out.Flush()
	fmt.Fprintf(w, "x: beside %s\n", t.Reference)
}

// Figure returns the median of a server's runs. It returns false if there are none.
func (t *Table) Figure(column, name string) (figure float64, ok bool) {
	figures := t.results[column][name]
	return Median(figures), len(figures) > 0
}

// ratios compares a server's runs with those that another one has had at about the same time. A busy machine slows down both.
func (t *Table) ratios(column, name, other string) (ratios []float64) {
	beside := t.results[column][other]
	for i, figure := range t.results[column][name] {
		if i < len(beside) && beside[i] > 0 {
			ratios = append(ratios, figure/beside[i])
		}
	}
	return ratios
}

// Median returns the median of some figures, or 0 if there are none.
func Median(figures []float64) float64 {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
