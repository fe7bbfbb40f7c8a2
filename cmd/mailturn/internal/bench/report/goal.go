package report

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// A Goal is what a server is to reach in a column.
type Goal struct {
	Column string
	Name   string // of the server
	Beside string // the server that the bound is a multiple of; empty for an absolute one
	Bound  float64
	Least  bool // the bound is the least, not the most
}

// PrintGoals prints which goals are reached. It leaves out those that were not measured.
func (t *Table) PrintGoals(w io.Writer, goals []Goal) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, g := range t.measured(goals) {
		if i == 0 {
			fmt.Fprintln(out, "goal\tserver\tfigure\tbeside\tratio\tbound\treached")
		}
		figure, _ := t.Figure(g.Column, g.Name)
		beside, ratio, compared := "-", "-", figure
		if g.Beside != "" {
			other, _ := t.Figure(g.Column, g.Beside)
			compared = t.ratio(g)
			beside, ratio = fmt.Sprintf("%s: %.1f", g.Beside, other), fmt.Sprintf("x %.2f", compared)
		}
		bound, reached := fmt.Sprintf("at most %g", g.Bound), "no"
		if g.Least {
			bound = fmt.Sprintf("at least %g", g.Bound)
		}
		if compared == g.Bound || g.Least == (compared > g.Bound) {
			reached = "yes"
		}
		fmt.Fprintf(out, "%s\t%s\t%.1f\t%s\t%s\t%s\t%s\n", g.Column, g.Name, figure, beside, ratio, bound, reached)
	}
	out.Flush()
}

// measured returns the goals for which there are figures.
func (t *Table) measured(goals []Goal) (measured []Goal) {
	for _, g := range goals {
		_, ok := t.Figure(g.Column, g.Name)
		if other, there := t.Figure(g.Column, g.Beside); ok && (g.Beside == "" || there && other != 0) {
			measured = append(measured, g)
		}
	}
	return measured
}

// ratio returns the ratio of a goal as Print does.
func (t *Table) ratio(g Goal) float64 {
	for _, c := range t.Columns {
		if ratios := t.ratios(c.Name, g.Name, g.Beside); c.Name == g.Column && c.Spread && len(ratios) > 0 {
			return Median(ratios)
		}
	}
	figure, _ := t.Figure(g.Column, g.Name)
	other, _ := t.Figure(g.Column, g.Beside)
	return figure / other
}
