package provision

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUndoKeepsChangedConfiguration has the operator change the configuration after setup, twice, and wants undo to keep both
// versions and to give the mail server its ports back.
func TestUndoKeepsChangedConfiguration(t *testing.T) {
	m := newSimulated(t, "-- /etc/mailturn/operators.txt --\nours\n")
	before := m.everything(t)
	for _, kept := range []string{ConfigFile + ".changed", ConfigFile + ".changed.2"} {
		if err := m.plan(t).Apply(t.Context(), m.Machine, silent); err != nil {
			t.Fatal(err)
		}
		ours := m.text(ConfigFile) + "# ours\n"
		m.write(t, ConfigFile, ours)
		var said string
		if err := m.Undo(t.Context(), func(what string) { said += what }); err != nil {
			t.Fatal(err)
		}
		if m.text(kept) != ours || !strings.Contains(said, "kept as "+kept+".") {
			t.Errorf("undo says %q, and %s is %q", said, kept, m.text(kept))
		}
	}
	after := m.everything(t)
	delete(after, ConfigFile+".changed")
	delete(after, ConfigFile+".changed.2")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("undo: -before +after\n%s", diff)
	}
}

// TestUndoRefusesChangedDovecot has somebody change a file of Dovecot after setup, and wants undo to leave everything alone until
// that file is out of the way.
func TestUndoRefusesChangedDovecot(t *testing.T) {
	const dropIn = "/etc/dovecot/conf.d/99-mailturn.conf"
	m := newSimulated(t, "")
	before := m.everything(t)
	if err := m.plan(t).Apply(t.Context(), m.Machine, silent); err != nil {
		t.Fatal(err)
	}
	m.write(t, dropIn, m.text(dropIn)+"# ours\n")
	m.write(t, ConfigFile, m.text(ConfigFile)+"# ours\n")
	changed := m.everything(t)
	var conflict *ChangedError
	if err := m.Undo(t.Context(), silent); !errors.As(err, &conflict) || !slices.Equal(conflict.Paths, []string{dropIn}) {
		t.Fatalf("undo returns %v", err)
	}
	if diff := cmp.Diff(changed, m.everything(t)); diff != "" {
		t.Errorf("undo has changed -before +after\n%s", diff)
	}
	for _, path := range []string{dropIn, ConfigFile} {
		if err := os.Rename(m.path(path), filepath.Join(t.TempDir(), "moved")); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Undo(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.everything(t)); diff != "" {
		t.Errorf("undo: -before +after\n%s", diff)
	}
}

// TestUndoFails wants what could not be taken back to be named, and to be taken back by another undo.
func TestUndoFails(t *testing.T) {
	m := newSimulated(t, "")
	before := m.everything(t)
	if err := m.plan(t).Apply(t.Context(), m.Machine, silent); err != nil {
		t.Fatal(err)
	}
	m.done = nil
	m.before = func(n int) error {
		if m.done[n-1] == "systemctl stop mailturn.service" {
			return errors.New("exit status 1")
		}
		return nil
	}
	if err := m.Undo(t.Context(), silent); err == nil || !strings.Contains(err.Error(), "systemctl stop mailturn.service") {
		t.Errorf("undo returns %v", err)
	}
	m.before = func(int) error { return nil }
	if err := m.Undo(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.everything(t)); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}

// TestUndoInterrupted interrupts undo at each point. It goes on: halfway, nobody would serve IMAP.
func TestUndoInterrupted(t *testing.T) {
	for n, ended := 1, false; !ended; n++ {
		m := newSimulated(t, "")
		before := m.everything(t)
		if err := m.plan(t).Apply(t.Context(), m.Machine, silent); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		m.done = nil
		m.before = func(i int) error {
			if i == n {
				cancel()
			}
			return nil
		}
		err := m.Undo(ctx, silent)
		cancel()
		if diff := cmp.Diff(before, m.everything(t)); err != nil || diff != "" {
			t.Errorf("interrupted at %d, %q: %v, -before +after\n%s", n, m.done, err, diff)
		}
		ended = len(m.done) < n
	}
}

// TestUndoNotUTF8 has a file in Latin-1, as comments of operators are.
func TestUndoNotUTF8(t *testing.T) {
	m := newSimulated(t, "")
	m.write(t, "/etc/dovecot/local.conf", "# f\xfcr uns\n")
	before := m.everything(t)
	if err := m.plan(t).Apply(t.Context(), m.Machine, silent); err != nil {
		t.Fatal(err)
	}
	if err := m.Undo(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.everything(t)); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}

// TestUndoEmptyFile wants a file that was empty to be empty again, and not to be gone.
func TestUndoEmptyFile(t *testing.T) {
	m := newSimulated(t, "")
	m.write(t, "/etc/dovecot/local.conf", "")
	before := m.everything(t)
	if err := m.plan(t).Apply(t.Context(), m.Machine, silent); err != nil {
		t.Fatal(err)
	}
	if err := m.Undo(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.everything(t)); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}

// TestUndoKeepsTheOperatorsKey has a certificate of the operator's, for another name, where the documentation proposes to put one.
func TestUndoKeepsTheOperatorsKey(t *testing.T) {
	const cert, key = "/etc/mailturn/fullchain.pem", "/etc/mailturn/privkey.pem"
	m := newSimulated(t, "")
	m.certify(t, []string{cert, key, "turn.example.org", "50"})
	plan := m.plan(t)
	if err := plan.Apply(t.Context(), m.Machine, silent); err != nil {
		t.Fatal(err)
	}
	if text := m.text("/etc/letsencrypt/renewal-hooks/deploy/mailturn"); text == "" || strings.Contains(text, "'"+key+"'") {
		t.Errorf("the key is overwritten by\n%s", text)
	}
	m.done = nil
	if err := m.Undo(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	removed := false
	for _, command := range m.done {
		if fields := strings.Fields(command); fields[0] == "rm" {
			removed = true
			if slices.Contains(fields, key) || slices.Contains(fields, cert) {
				t.Errorf("undo runs %s", command)
			}
		}
	}
	if !removed {
		t.Error("undo leaves the copies")
	}
}
