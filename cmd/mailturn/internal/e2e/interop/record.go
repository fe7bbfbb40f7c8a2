package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// directory is the environment variable that names the directory of the cells.
const directory = "MAILTURN_INTEROP"

// Record adds a cell to a file of the directory that the environment variable MAILTURN_INTEROP names. Without the variable, or
// if the test has failed, it only checks the cell.
//
// It is called after all that the cell stands for was seen to work. Several tests and processes may call it at the same time.
func Record(t testing.TB, c Cell) {
	t.Helper()
	if err := c.check(); err != nil {
		t.Fatalf("%v in the cell %+v", err, c)
	}
	dir := os.Getenv(directory)
	if dir == "" || t.Failed() {
		return
	}
	if err := appendTo(filepath.Join(dir, "cells.jsonl"), c); err != nil {
		t.Fatal(err)
	}
}

// appendTo writes the cell in one piece, so that those of several processes do not mix.
func appendTo(file string, c Cell) (err error) {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Read returns the cells of the directory's .jsonl files, merged.
func Read(dir string) ([]Cell, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return nil, err
	}
	var cells []Cell
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(bytes.NewReader(text))
		for n := 1; lines.Scan(); n++ {
			var c Cell
			err := json.Unmarshal(lines.Bytes(), &c)
			if err == nil {
				err = c.check()
			}
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, n, err)
			}
			cells = append(cells, c)
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return Merge(nil, cells), nil
}
