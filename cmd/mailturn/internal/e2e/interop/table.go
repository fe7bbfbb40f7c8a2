package interop

import (
	"fmt"
	"slices"
	"strings"
)

const introduction = `# What works with mailturn

Each cell is a result of the end-to-end tests with another program: "works", with the program's version and what the run measured
in parentheses. The last column names what must fail, and does so in a test, such as a wrong secret.

    .ci/matrix

This runs those tests and writes this file. CI fails if the cells of a run differ from this file; it only reports different
versions.
`

// section is one table of the document.
type section struct {
	heading, text string
	column        string // of the names
	how           string // heading of Cell.How
}

var sections = map[Kind]section{
	Client: {"Clients", "They move data through the relay, over this transport and address family between client and relay.", "client", "credential"},
	Server: {"Servers", "They are IMAP servers that mailturn is in front of, or answers for. Stalwart is missing: it is no package of Debian or npm, nor a Go module.", "server", "what was done"},
	Door:   {"Doors", "They get credentials from mailturn, or issue them under its secret, and pass them on to clients of their own.", "program", "what was done"},
	Recipe: {"Recipes", "They are taken from this project's documentation and run as they stand, with other addresses and paths, unless they say otherwise.", "recipe", "what was done"},
}

// Render returns docs/interop.md, which depends on nothing but the cells.
func Render(cells []Cell) string {
	var out strings.Builder
	out.WriteString(introduction)
	cells = Merge(nil, cells)
	for _, kind := range kinds {
		of := slices.DeleteFunc(slices.Clone(cells), func(c Cell) bool { return c.Kind != kind })
		if len(of) == 0 {
			continue
		}
		s := sections[kind]
		fmt.Fprintf(&out, "\n## %s\n\n%s\n", s.heading, s.text)
		if kind == Client {
			out.WriteString("Where a cell says anything other than \"works\", that is why there is no test.\n")
		}
		columns := columnsOf(kind, of)
		header := slices.Concat([]string{s.column, s.how}, columns, []string{"what must fail"})
		fmt.Fprintf(&out, "\n| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat(" --- |", len(header)))
		for _, row := range rowsOf(of) {
			fmt.Fprintf(&out, "| %s | %s |", row[0].Name, row[0].How)
			for _, column := range columns {
				fmt.Fprintf(&out, " %s |", content(row, column))
			}
			fmt.Fprintf(&out, " %s |\n", control(row))
		}
	}
	return out.String()
}

// result is the column of cells that have neither a transport nor a family.
const result = "result"

// columnsOf returns the headings of the columns that have a cell; for clients, all there are.
func columnsOf(kind Kind, cells []Cell) (columns []string) {
	for _, family := range append([]string{""}, families...) {
		for _, transport := range append([]string{""}, transports...) {
			over := Cell{Transport: transport, Family: family}.over()
			if kind == Client && transport != "" && family != "" || slices.ContainsFunc(cells, func(c Cell) bool { return c.over() == over }) {
				columns = append(columns, heading(over))
			}
		}
	}
	return columns
}

func heading(over string) string {
	if over == "" {
		return result
	}
	return over
}

// rowsOf returns the cells with the same name and the same way, which follow each other.
func rowsOf(cells []Cell) (rows [][]Cell) {
	for i, c := range cells {
		if i == 0 || cells[i-1].Name != c.Name || cells[i-1].How != c.How {
			rows = append(rows, nil)
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], c)
	}
	return rows
}

const works = "works ("

// content is what a row has in a column.
func content(row []Cell, column string) string {
	for _, c := range row {
		if heading(c.over()) != column {
			continue
		}
		if c.Figures == "" {
			return works + c.Version + ")"
		}
		return works + c.Version + "; " + c.Figures + ")"
	}
	return reasonFor(row[0], column)
}

// control is what the cells of a row have for controls.
func control(row []Cell) string {
	var all []string
	for _, c := range row {
		all = append(all, strings.Split(c.Control, "; ")...)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "; ")
}
