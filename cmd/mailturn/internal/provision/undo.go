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

// ErrNotSetUp says that there is nothing to take back.
var ErrNotSetUp = errors.New("this machine has not been set up by mailturn setup")

// Undo takes back what setup has changed, whether it was completed or interrupted. It renames a configuration of mailturn that
// somebody has changed since, and tells say where it is. If another file has been changed, it changes nothing and returns a
// ChangedError. Once it has begun, the end of ctx does not stop it: halfway, nobody would serve IMAP.
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

// A ChangedError says which files keep Undo from going on.
type ChangedError struct{ Paths []string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s changed after setup wrote it, and that change would be lost: move the file away, for example to /root, and run mailturn setup --undo again",
		strings.Join(e.Paths, ", "))
}

// How long the mail server may take to answer after the way back, and again after a restart.
const undoPatience = 20 * time.Second

// undo takes the steps back, the last one first. It goes on after an error, because the mail server matters most, and keeps the
// journal then.
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

// awaitMailServer wants the mail server to answer where it did before.
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

// restore gives a file back what it held, if it is as the step has left it: an undo that is run again finds files that have been
// restored further. One that is gone is restored if its entry is the original. Directories that were made for it are removed if
// nothing else is in them.
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
		os.Remove(m.path(dir)) // it fails if somebody else has put something there
	}
	return nil
}

// rewrite writes what a file held. On a full disk there is no room for a second file: then it is written in place.
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
