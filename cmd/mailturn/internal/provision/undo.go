package provision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/framework/atomicfile"
)

// ErrNotSetUp means that there is nothing to undo.
var ErrNotSetUp = errors.New("this machine has not been set up by mailturn setup")

// Undo undoes what setup has changed, whether setup was completed or interrupted. If mailturn's configuration has been changed
// since, Undo renames it and reports the new name with say. If any other file has been changed, it changes nothing and returns a
// ChangedError. Once begun, it continues when ctx is done, because halfway there might be no IMAP server.
func (m *Machine) Undo(ctx context.Context, say func(what string)) error {
	j, err := m.ReadJournal()
	if err != nil {
		return err
	}
	if j == nil {
		return ErrNotSetUp
	}
	changed, err := j.Changed(m)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(changed), func(path string) bool { return path == ConfigFile })
	if len(others) > 0 {
		return &ChangedError{others}
	}
	if len(changed) > 0 {
		kept, err := m.setAside(ConfigFile)
		if err != nil {
			return err
		}
		say(fmt.Sprintf("%s has been changed since setup. The changed file is kept as %s.", ConfigFile, kept))
	}
	return j.undo(context.WithoutCancel(ctx), m)
}

// setAside renames a file, and returns its new name.
func (m *Machine) setAside(path string) (kept string, err error) {
	kept = path + ".changed"
	for n := 2; m.exists(kept); n++ {
		kept = fmt.Sprintf("%s.changed.%d", path, n)
	}
	return kept, os.Rename(m.path(path), m.path(kept))
}

// A ChangedError lists files that prevent an undo because they have been changed.
type ChangedError struct{ Paths []string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s changed after setup wrote it, and that change would be lost: move the file away, for example to /root, and run mailturn setup --undo again",
		strings.Join(e.Paths, ", "))
}

// The maximum time until the mail server answers after an undo, and again after a restart.
const undoPatience = 20 * time.Second

// undo undoes the steps, the last one first. It continues after an error, because the mail server matters most, and then keeps the
// journal.
func (j *Journal) undo(ctx context.Context, m *Machine) error {
	var errs []error
	for i, step := range slices.Backward(j.Steps) {
		for _, action := range slices.Backward(step.Actions) {
			if err := m.command(ctx, action.Undo); err != nil && action.Done {
				errs = append(errs, err)
			}
		}
		for _, entry := range slices.Backward(step.Files) {
			if err := m.restore(entry, !j.writtenBefore(i, entry.Path)); err != nil {
				errs = append(errs, err)
			}
		}
		for _, argv := range step.UndoLast {
			if err := m.command(ctx, argv); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if len(j.Steps) > 0 {
		errs = append(errs, j.awaitMailServer(ctx, m))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return m.removeJournal()
}

// awaitMailServer waits until the mail server answers where it did before setup.
func (j *Journal) awaitMailServer(ctx context.Context, m *Machine) error {
	all := func() error {
		for _, g := range j.Greets {
			if err := retry(ctx, undoPatience, func() error { return m.Greeting(ctx, g.Address, g.TLS, "") }); err != nil {
				return err
			}
		}
		return nil
	}
	err := all()
	if err == nil || len(j.Repair) == 0 {
		return err
	}
	if err := m.command(ctx, j.Repair); err != nil {
		return err
	}
	return all()
}

// writtenBefore reports whether a step before step n has written the file.
func (j *Journal) writtenBefore(n int, path string) bool {
	return slices.ContainsFunc(j.Steps[:n], func(s journalStep) bool {
		return slices.ContainsFunc(s.Files, func(e journalEntry) bool { return e.Path == path })
	})
}

// restore restores a file if it is as the step left it. When an undo is repeated, some files have already been restored to an
// earlier state. A removed file is restored if the entry has its original contents. Directories that were created for it are
// removed if they are empty.
func (m *Machine) restore(entry journalEntry, original bool) error {
	now, err := m.fileState(entry.Path)
	if err != nil {
		return err
	}
	asLeft := now.exists && now.text == string(entry.After)
	switch {
	case !entry.Existed && asLeft:
		if err := os.Remove(m.path(entry.Path)); err != nil {
			return err
		}
	case entry.Existed && (asLeft || !now.exists && original):
		if err := m.rewrite(entry); err != nil {
			return err
		}
	}
	for _, dir := range slices.Backward(entry.Made) {
		os.Remove(m.path(dir)) // fails if the directory is not empty
	}
	return nil
}

// rewrite restores the contents of a file. On a full disk, without room for a second file, it overwrites the file in place.
func (m *Machine) rewrite(entry journalEntry) error {
	path := m.resolved(entry.Path)
	err := atomicfile.Replace(path, entry.Before, atomicfile.Attributes{Mode: entry.Mode, UID: entry.UID, GID: entry.GID})
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	f, openErr := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(openErr, fs.ErrNotExist) {
		return err
	}
	if openErr != nil {
		return openErr
	}
	_, writeErr := f.WriteAt(entry.Before, 0)
	return errors.Join(writeErr, f.Truncate(int64(len(entry.Before))), f.Chmod(entry.Mode), f.Chown(entry.UID, entry.GID), f.Sync(), f.Close())
}
