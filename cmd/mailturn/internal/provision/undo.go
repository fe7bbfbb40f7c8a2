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

// Undo takes back what setup has changed, whether it was completed or interrupted. It changes nothing if somebody has changed one of
// the files meanwhile.
func (m *Machine) Undo(ctx context.Context) error {
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
	if len(changed) > 0 {
		return &ChangedError{changed}
	}
	return j.undo(ctx, m)
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
	asLeft := now.exists && now.text == entry.After
	switch {
	case entry.Before == nil && asLeft:
		if err := os.Remove(m.path(entry.Path)); err != nil {
			return err
		}
	case entry.Before != nil && (asLeft || !now.exists && original):
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
	err := atomicfile.Replace(path, []byte(*entry.Before), atomicfile.Attributes{Mode: entry.Mode, UID: entry.UID, GID: entry.GID})
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
	_, writeErr := f.WriteAt([]byte(*entry.Before), 0)
	return errors.Join(writeErr, f.Truncate(int64(len(*entry.Before))), f.Chmod(entry.Mode), f.Chown(entry.UID, entry.GID), f.Sync(), f.Close())
}
