package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mailturn/mailturn/endpoint/turn/coturn"
	"github.com/mailturn/mailturn/framework/atomicfile"
	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config"
)

// importMode is the mode of an imported configuration: it holds secrets.
const importMode fs.FileMode = 0o640

// importGroup is the group of the unit's user.
const importGroup = "mailturn"

// importOutput is the file that an imported configuration is written to.
type importOutput struct {
	path             string
	merge, overwrite bool
	group            string

	existing fs.FileInfo // nil if there is no file at path yet
	old      []byte      // what it holds
}

// checkUsage returns an error for an invalid combination of flags.
func (o *importOutput) checkUsage() error {
	switch {
	case o.merge && o.overwrite:
		return errors.New("--merge adds to the file and --overwrite replaces it: use only one of them")
	case o.path == "" && (o.merge || o.overwrite || o.group != ""):
		return errors.New("--merge, --overwrite and --group require --output")
	}
	return nil
}

// open reads the file at path, without changing it. source is the file that is imported.
func (o *importOutput) open(source *os.File) error {
	if target, err := filepath.EvalSymlinks(o.path); err == nil {
		o.path = target // else the link would be replaced
	}
	info, err := os.Stat(o.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if sourceInfo, err := source.Stat(); err == nil && os.SameFile(info, sourceInfo) {
		return fmt.Errorf("%s is the file being imported: choose another --output", o.path)
	}
	if !o.merge && !o.overwrite {
		return fmt.Errorf("%s exists: --merge adds what it lacks, --overwrite replaces it; both keep the old file as a backup", o.path)
	}
	o.existing = info
	o.old, _, err = bounded.ReadFile(o.path, bounded.MaxFile)
	return err
}

// compose returns the new contents of the file, and the names of the settings that it keeps although coturn's file has other
// values.
func (o *importOutput) compose(imported *coturn.Import, header string) (text []byte, kept []string, err error) {
	if o.existing == nil || o.overwrite {
		var result bytes.Buffer
		result.WriteString(header + "\n")
		err := imported.Write(&result)
		return result.Bytes(), nil, err
	}
	if config.DetectSyntax(o.old) == config.Directives {
		return nil, nil, fmt.Errorf("%s uses maddy's directives, which cannot be merged into: print the result without --output, and add it by hand", o.path)
	}
	added, kept, diags := imported.AddTo(o.old, o.path)
	if diags.HasErrors() {
		return nil, nil, fmt.Errorf("%s has errors: see mailturn check-config %s", o.path, o.path)
	}
	text = append(bytes.TrimRight(added, "\n"), "\n\n"+header+imported.Comments()...)
	return text, kept, nil
}

// write writes the file, and keeps the old one.
func (o *importOutput) write(text []byte, kept []string, stdout, stderr io.Writer) error {
	attributes := atomicfile.Attributes{Mode: importMode, UID: -1, GID: -1}
	if o.existing != nil {
		attributes = atomicfile.Owned(o.existing, importMode)
	}
	if o.existing == nil || o.group != "" {
		gid, err := o.groupID()
		if err != nil {
			return err
		}
		attributes.Mode, attributes.GID = importMode, gid
	}
	if o.existing == nil {
		if err := atomicfile.Create(o.path, text, attributes); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s: written.\n", o.path)
	} else {
		backup, err := keep(o.path)
		if err != nil {
			return fmt.Errorf("keep the old %s: %w", o.path, err)
		}
		if err := atomicfile.Replace(o.path, text, attributes); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s: written. The old one is %s.\n", o.path, backup)
	}
	if len(kept) > 0 {
		fmt.Fprintf(stderr, "%s: already set and left alone, although coturn's value differs: %s.\n", o.path, strings.Join(kept, ", "))
	}
	if attributes.GID < 0 && os.Geteuid() == 0 {
		fmt.Fprintf(stderr, "%s: this machine has no group %s: make the file readable by the user that runs mailturn, for example with chgrp.\n", o.path, importGroup)
	}
	return nil
}

// groupID returns the group of the file, or -1 for that of the process: by default, only root gives files to the group of the
// service.
func (o *importOutput) groupID() (int, error) {
	name := o.group
	if name == "" {
		if name = importGroup; os.Geteuid() != 0 {
			return -1, nil
		}
	}
	group, err := user.LookupGroup(name)
	switch _, unknown := errors.AsType[user.UnknownGroupError](err); {
	case unknown && o.group == "":
		return -1, nil
	case err != nil:
		return -1, err
	}
	return strconv.Atoi(group.Gid)
}

// keep gives the file at path a second, unused name, under which it stays when path is replaced.
func keep(path string) (backup string, err error) {
	for n := 1; ; n++ {
		backup = path + ".bak"
		if n > 1 {
			backup += strconv.Itoa(n)
		}
		if err := os.Link(path, backup); !errors.Is(err, fs.ErrExist) {
			return backup, err
		}
	}
}
