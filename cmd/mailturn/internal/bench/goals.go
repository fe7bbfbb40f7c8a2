package bench

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
)

// Names of servers and columns.
const (
	mailturn    = "mailturn"
	nginxStream = "nginx stream"
	nginxMail   = "nginx mail"

	metadataCPU = "GETMETADATA CPU us"
	fetchCPU    = "FETCH MB/CPU s"
	idleHeld    = "idle connections"
	idleMemory  = "idle KiB"
)

var columns = []report.Column{
	{Name: "login ms", Format: "%.2f"},
	{Name: "login CPU ms", Format: "%.2f", Ratio: true},
	{Name: "NOOP CPU us", Format: "%.0f", Ratio: true},
	{Name: metadataCPU, Format: "%.0f", Ratio: true},
	{Name: "GETMETADATA us", Format: "%.0f"},
	{Name: "FETCH MB/s", Format: "%.0f"},
	{Name: fetchCPU, Format: "%.0f", Ratio: true},
	{Name: idleHeld, Format: "%.0f"},
	{Name: idleMemory, Format: "%.1f", Ratio: true},
}

// A goal is a bound for mailturn's figure in a column.
type goal struct {
	column string
	beside string // the server of whose figure the bound is a multiple; empty for an absolute bound
	bound  float64
	least  bool // the bound is a minimum, not a maximum
}

var goals = []goal{
	{idleMemory, nginxStream, 1.5, false},
	{idleMemory, nginxMail, 1.5, false},
	{idleMemory, "", 24, false},
	{fetchCPU, nginxStream, 0.9, true},
	{fetchCPU, nginxMail, 0.9, true},
	{metadataCPU, "", 100, false},
}

// printGoals prints which goals are reached.
func printGoals(w io.Writer, t *report.Table) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "goal\tmailturn\tbeside\tratio\tbound\treached")
	for _, g := range goals {
		figure, ok := t.Figure(g.column, mailturn)
		if !ok {
			continue
		}
		beside, ratio, compared := "-", "-", figure
		if g.beside != "" {
			other, ok := t.Figure(g.column, g.beside)
			if !ok || other == 0 {
				continue
			}
			compared = figure / other
			beside, ratio = fmt.Sprintf("%s: %.1f", g.beside, other), fmt.Sprintf("x %.2f", compared)
		}
		bound, reached := fmt.Sprintf("at most %g", g.bound), "no"
		if g.least {
			bound = fmt.Sprintf("at least %g", g.bound)
		}
		if g.least == (compared >= g.bound) {
			reached = "yes"
		}
		fmt.Fprintf(out, "%s\t%.1f\t%s\t%s\t%s\t%s\n", g.column, figure, beside, ratio, bound, reached)
	}
	out.Flush()
}
