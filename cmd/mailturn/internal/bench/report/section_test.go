package report

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplaceSection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "speed.md")
	if err := os.WriteFile(file, []byte("# Speed\n\n<!-- begin turn -->\nold\n<!-- end turn -->\n\nMore.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := "# Speed\n\n<!-- begin turn -->\n\n```\nvoice  1\n```\n\n<!-- end turn -->\n\nMore.\n"
	for range 2 {
		if err := ReplaceSection(file, "turn", "voice  1\n\n"); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(file); string(got) != want {
			t.Fatalf("the file is %q, want %q", got, want)
		}
	}
	if err := ReplaceSection(file, "imap", "x"); err == nil {
		t.Error("a section that is not there was replaced")
	}
	if got, _ := os.ReadFile(file); string(got) != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
}
