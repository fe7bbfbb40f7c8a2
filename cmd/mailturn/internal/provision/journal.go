package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/mailturn/mailturn/framework/atomicfile"
)

// JournalDir contains the journal while mailturn is set up. Only root can write to it, so it is not in mailturn's state directory:
// whoever can write the journal determines what root writes where.
const JournalDir = "/var/lib/mailturn-setup"

const journalFile = JournalDir + "/journal.json"

// A Journal records what setup has changed and how to undo it. A step is recorded before it begins.
type Journal struct {
	Started time.Time `json:"started"`
	// Done is true once every step has been applied. Otherwise setup is running or was interrupted.
	Done     bool          `json:"done"`
	Hostname string        `json:"hostname"`
	Steps    []journalStep `json:"steps"`
	Greets   []Greeting    `json:"greets"` // see Plan
	Repair   []string      `json:"repair,omitempty"`
}

type journalStep struct {
	Title    string          `json:"title"`
	Files    []journalEntry  `json:"files,omitempty"`
	Actions  []journalAction `json:"actions,omitempty"` // that have begun, and have to be taken back
	UndoLast [][]string      `json:"undo_last,omitempty"`
}

// A journalEntry describes a file before and after the step.
type journalEntry struct {
	Path    string      `json:"path"`
	Existed bool        `json:"existed"`
	Before  []byte      `json:"before"` // a string would be replaced where it is not UTF-8
	After   []byte      `json:"after"`
	Mode    fs.FileMode `json:"mode"` // before
	UID     int         `json:"uid"`
	GID     int         `json:"gid"`
	// Made contains the directories created for it, the outermost first.
	Made []string `json:"made,omitempty"`
}

type journalAction struct {
	Undo []string `json:"undo"`
	Done bool     `json:"done"` // else it has failed, or something ended it
}

// ReadJournal reads the journal. It returns nil if this machine has not been set up.
func (m *Machine) ReadJournal() (*Journal, error) {
	info, err := os.Lstat(m.path(JournalDir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || info.Mode().Perm()&0o022 != 0 || ok && int(stat.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s could have been written by somebody else: it must be a directory that only root can write", JournalDir)
	}
	text, err := m.read(journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // setup was interrupted before the first step
	}
	if err != nil {
		return nil, err
	}
	j := &Journal{}
	if err := json.Unmarshal(text, j); err != nil {
		return nil, fmt.Errorf("%s: %w", journalFile, err)
	}
	return j, nil
}

// begin writes the first journal. It fails if there is one.
func (j *Journal) begin(m *Machine) error {
	if err := os.Mkdir(m.path(JournalDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	text, err := j.encode()
	if err != nil {
		return err
	}
	err = atomicfile.Create(m.path(journalFile), text, atomicfile.Private)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("another setup is running, or has been interrupted: run mailturn setup --undo first")
	}
	if err != nil {
		os.Remove(m.path(JournalDir))
	}
	return err
}

// save writes the journal.
func (j *Journal) save(m *Machine) error {
	text, err := j.encode()
	if err != nil {
		return err
	}
	return atomicfile.Replace(m.path(journalFile), text, atomicfile.Private)
}

func (j *Journal) encode() ([]byte, error) { return json.MarshalIndent(j, "", "  ") }

// removeJournal removes the journal.
func (m *Machine) removeJournal() error { return os.RemoveAll(m.path(JournalDir)) }

// A fileState is the contents of a file, which may not exist.
type fileState struct {
	text   string
	exists bool
}

// fileState reads a file. It is not an error if the file does not exist.
func (m *Machine) fileState(path string) (fileState, error) {
	text, err := m.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fileState{}, nil
	}
	return fileState{string(text), err == nil}, err
}

// Changed returns the files that have been changed since setup wrote them. It omits files that were removed, because an undo loses
// nobody's work in them.
func (j *Journal) Changed(m *Machine) (paths []string, err error) {
	known := make(map[string][]string) // by path, the contents that setup wrote or found
	var order []string
	for _, step := range j.Steps {
		for _, entry := range step.Files {
			if known[entry.Path] == nil {
				order = append(order, entry.Path)
			}
			known[entry.Path] = append(known[entry.Path], string(entry.After))
			if entry.Existed {
				known[entry.Path] = append(known[entry.Path], string(entry.Before))
			}
		}
	}
	for _, path := range order {
		state, err := m.fileState(path)
		if err != nil {
			return nil, err
		}
		if state.exists && !slices.Contains(known[path], state.text) {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// missingDirectories returns the directories of a path that do not exist, the outermost first.
func (m *Machine) missingDirectories(path string) (missing []string) {
	for dir := filepath.Dir(path); !m.exists(dir); dir = filepath.Dir(dir) {
		missing = append(missing, dir)
	}
	slices.Reverse(missing)
	return missing
}
