package report

import (
	"strings"
	"testing"
)

func TestGoals(t *testing.T) {
	table := Table{
		Columns:   []Column{{Name: "CPU", Format: "%.1f", Ratio: true, Spread: true}, {Name: "rate", Format: "%.0f"}},
		Names:     []string{"a", "b"},
		Reference: "b",
	}
	for i, figure := range []float64{8, 10, 30} { // 0.8, 0.5 and 0.6 times b, which is measured at about the same time
		table.Add("CPU", "a", figure)
		table.Add("CPU", "b", []float64{10, 20, 50}[i])
	}
	table.Add("rate", "a", 100)
	var out strings.Builder
	table.PrintGoals(&out, []Goal{
		{Column: "CPU", Name: "a", Beside: "b", Bound: 0.6},
		{Column: "CPU", Name: "a", Beside: "b", Bound: 0.59},
		{Column: "rate", Name: "a", Bound: 100, Least: true},
		{Column: "rate", Name: "a", Bound: 101, Least: true},
		{Column: "rate", Name: "a", Beside: "b", Bound: 1}, // b was not measured
	})
	var reached []string
	for line := range strings.Lines(out.String()) {
		fields := strings.Fields(line)
		reached = append(reached, fields[len(fields)-1])
	}
	if got, want := strings.Join(reached, " "), "reached yes no yes no"; got != want {
		t.Errorf("got %q, want %q:\n%s", got, want, out.String())
	}
}
