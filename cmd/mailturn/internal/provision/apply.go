package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mailturn/mailturn/framework/atomicfile"
)

// Apply carries out the plan and reports its progress with say. If a step fails or ctx is done, it undoes everything. After that,
// either the whole plan has been carried out or nothing has changed. The error says which step failed, and what could not be
// undone, if anything.
func (p *Plan) Apply(ctx context.Context, m *Machine, say func(what string)) error {
	for path, text := range p.seenStates() {
		now, err := m.fileState(path)
		if err != nil {
			return err
		}
		if now != text {
			return fmt.Errorf("%s has changed since the plan was made: run setup again", path)
		}
	}
	j := &Journal{Started: m.Now().UTC(), Hostname: p.Hostname, Greets: p.Greets, Repair: p.Repair}
	if err := j.begin(m); err != nil {
		return err
	}
	for i, step := range p.Steps {
		say(fmt.Sprintf("%d/%d %s", i+1, len(p.Steps), step.Title))
		if err := step.apply(ctx, m, j); err != nil {
			err = fmt.Errorf("step %d, %s: %w", i+1, step.Title, err)
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			}
			return p.takeBack(ctx, m, j, err, say)
		}
	}
	j.Done = true
	if err := j.save(m); err != nil {
		return p.takeBack(ctx, m, j, err, say)
	}
	return nil
}

// takeBack undoes the steps in the journal because of an error.
func (*Plan) takeBack(ctx context.Context, m *Machine, j *Journal, because error, say func(what string)) error {
	say("undoing what was done")
	if err := j.undo(context.WithoutCancel(ctx), m); err != nil {
		return fmt.Errorf("%w\nNot everything could be undone:\n%s\nRun mailturn setup --undo when you have corrected that", because, indent(err.Error()))
	}
	return fmt.Errorf("%w\nEverything is as it was before", because)
}

// seenStates returns the contents of the files when the plan was made.
func (p *Plan) seenStates() map[string]fileState {
	states := make(map[string]fileState)
	for _, f := range p.changes() {
		text, exists := p.seen[f.Path]
		states[f.Path] = fileState{text, exists}
	}
	return states
}

// apply records the step in the journal and carries it out.
func (s *Step) apply(ctx context.Context, m *Machine, j *Journal) error {
	noted := journalStep{Title: s.Title, UndoLast: s.UndoLast}
	for _, f := range s.Files {
		entry, err := m.entry(f)
		if err != nil {
			return err
		}
		noted.Files = append(noted.Files, entry)
	}
	j.Steps = append(j.Steps, noted)
	here := &j.Steps[len(j.Steps)-1]
	if err := j.save(m); err != nil {
		j.Steps = j.Steps[:len(j.Steps)-1] // nothing of it has been done
		return err
	}
	for i, f := range s.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.write(f, here.Files[i]); err != nil {
			return err
		}
	}
	for _, action := range s.Do {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(action.Undo) > 0 {
			here.Actions = append(here.Actions, journalAction{Undo: action.Undo})
			if err := j.save(m); err != nil {
				here.Actions = here.Actions[:len(here.Actions)-1]
				return err
			}
		}
		if err := action.do(ctx, m); err != nil {
			return err
		}
		if len(action.Undo) > 0 {
			here.Actions[len(here.Actions)-1].Done = true
			if err := j.save(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry returns the journal's record of a file before it is written.
func (m *Machine) entry(f File) (journalEntry, error) {
	state, err := m.fileState(f.Path)
	if err != nil {
		return journalEntry{}, err
	}
	entry := journalEntry{Path: f.Path, After: []byte(f.Text), UID: -1, GID: -1, Made: m.missingDirectories(f.Path)}
	if !state.exists {
		return entry, nil
	}
	entry.Existed, entry.Before = true, []byte(state.text)
	info, err := os.Stat(m.path(f.Path))
	if err != nil {
		return journalEntry{}, err
	}
	entry.Mode = info.Mode().Perm()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		entry.UID, entry.GID = int(stat.Uid), int(stat.Gid)
	}
	return entry, nil
}

// write writes a file. An existing file keeps its owner and mode, unless the new one specifies a group.
func (m *Machine) write(f File, entry journalEntry) error {
	for _, dir := range entry.Made {
		if err := os.Mkdir(m.path(dir), 0o755); err != nil && !os.IsExist(err) {
			return err
		}
	}
	attributes := atomicfile.Attributes{Mode: f.Mode, UID: -1, GID: f.Group}
	if entry.Existed && f.Group < 0 {
		attributes = atomicfile.Attributes{Mode: entry.Mode, UID: entry.UID, GID: entry.GID}
	}
	return atomicfile.Replace(m.resolved(f.Path), []byte(f.Text), attributes)
}

// resolved returns the path at which to replace a file. Replacing a symbolic link would leave its target unchanged.
func (m *Machine) resolved(name string) string {
	if target, err := filepath.EvalSymlinks(m.path(name)); err == nil {
		return target
	}
	return m.path(name)
}
