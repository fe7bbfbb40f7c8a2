// Package matrix compares docs/interop.md with the cells that end-to-end tests have recorded in a directory, or writes it:
//
//	go run ./cmd/mailturn/internal/e2e/matrix/main.go [-write | -add] DIRECTORY
package matrix

import (
	"fmt"
	"io"
	"os"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/interop"
)

// Run writes the file, or compares it and reports whether it has the cells of the directory.
func Run(out io.Writer, file, dir string, write, add bool) (same bool, err error) {
	cells, err := interop.Read(dir)
	if err != nil {
		return false, err
	}
	if len(cells) == 0 {
		return false, fmt.Errorf("no cells in %s: run the tests with MAILTURN_INTEROP set to its absolute path", dir)
	}
	if write {
		return true, os.WriteFile(file, []byte(interop.Render(cells)), 0o644)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	committed, err := interop.Parse(string(text))
	if err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	if add {
		return true, os.WriteFile(file, []byte(interop.Render(interop.Merge(committed, cells))), 0o644)
	}
	d := interop.Compare(committed, cells)
	for _, line := range d.Versions {
		fmt.Fprintln(out, "other version (no error):", line)
	}
	for _, c := range d.Missing {
		fmt.Fprintln(out, "missing:", c)
	}
	for _, c := range d.New {
		fmt.Fprintln(out, "new:", c)
	}
	for _, line := range d.Controls {
		fmt.Fprintln(out, "other controls:", line)
	}
	if !d.OK() {
		fmt.Fprintf(out, "%s does not have the cells of this run: .ci/matrix writes it\n", file)
	}
	return d.OK(), nil
}
