//go:build ignore

// Command matrix is package matrix. It is left out of `go install ./...`, which installs mailturn alone.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/matrix"
)

func main() {
	file := flag.String("file", filepath.FromSlash("docs/interop.md"), "the `file` with the tables")
	write := flag.Bool("write", false, "write the file, from the cells of DIRECTORY alone")
	add := flag.Bool("add", false, "write the file, with the cells that it has already and are not in DIRECTORY")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: matrix [-file FILE] [-write | -add] DIRECTORY")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 || *write && *add {
		flag.Usage()
		os.Exit(2)
	}
	same, err := matrix.Run(os.Stdout, *file, flag.Arg(0), *write, *add)
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(2)
	}
	if !same {
		os.Exit(1)
	}
}
