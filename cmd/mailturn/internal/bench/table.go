package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A column is one figure of a report.
type column struct {
	name   string
	format string
	ratio  bool // to the same of the reference
	spread bool // of the ratio: it is taken run by run
}

// A table is the report: a line for each column, with the medians of all servers side by side.
type table struct {
	columns   []column
	names     []string // of the servers
	reference string   // the one that others are compared with
	results   map[string]map[string][]float64
}

// add adds the figure of one run.
func (t *table) add(column, name string, figure float64) {
	if t.results == nil {
		t.results = make(map[string]map[string][]float64)
	}
	if t.results[column] == nil {
		t.results[column] = make(map[string][]float64)
	}
	t.results[column][name] = append(t.results[column][name], figure)
}

func (t *table) print(w io.Writer, title string) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(out, title, "\t")
	for _, name := range t.names {
		fmt.Fprint(out, name, "\t")
	}
	fmt.Fprintln(out)
	for _, c := range t.columns {
		if t.results[c.name] == nil {
			continue
		}
		fmt.Fprint(out, c.name, "\t")
		beside, _ := t.figure(c.name, t.reference)
		for _, name := range t.names {
			figure, ok := t.figure(c.name, name)
			if !ok {
				fmt.Fprint(out, "-\t")
				continue
			}
			fmt.Fprintf(out, c.format, figure)
			if ratios := t.ratios(c.name, name); c.spread && len(ratios) > 0 && name != t.reference {
				fmt.Fprintf(out, " (x %.2f, %.2f to %.2f)", median(ratios), slices.Min(ratios), slices.Max(ratios))
			} else if c.ratio && beside > 0 && name != t.reference {
				fmt.Fprintf(out, " (x %.2f)", figure/beside)
			}
			fmt.Fprint(out, "\t")
		}
		fmt.Fprintln(out)
	}
	out.Flush()
	fmt.Fprintf(w, "x: beside %s\n", t.reference)
}

// figure is the median of a server's runs. It returns false if there are none.
func (t *table) figure(column, name string) (figure float64, ok bool) {
	figures := t.results[column][name]
	return median(figures), len(figures) > 0
}

// ratios compares a server's runs with those that the reference has had at about the same time. A busy machine slows down both.
func (t *table) ratios(column, name string) (ratios []float64) {
	beside := t.results[column][t.reference]
	for i, figure := range t.results[column][name] {
		if i < len(beside) && beside[i] > 0 {
			ratios = append(ratios, figure/beside[i])
		}
	}
	return ratios
}

func median(figures []float64) float64 {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
