package directive

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLex checks that the places of the words are in the order of the source, and that a word printed by the rules of the syntax is
// read back unchanged.
func FuzzLex(f *testing.F) {
	names, err := filepath.Glob("../testdata/*/*.conf")
	if err != nil || len(names) == 0 {
		f.Fatalf("no fixtures: %v", err)
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, test := range lexTests {
		f.Add([]byte(test.src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		words, diags := lex("x", src)
		if diags.HasErrors() {
			return
		}
		if len(words) == 0 || !words[len(words)-1].lineEnd() {
			t.Fatal("the last word is not a line end")
		}
		at := 0
		printed := bytes.NewBufferString("\ufeff") // else a second byte order mark would become the first
		for i, w := range words {
			if w.rng.Start.Byte < at || w.rng.End.Byte < w.rng.Start.Byte || w.rng.End.Byte > len(src) {
				t.Fatalf("%q is at %+v, after byte %d", w.text, w.rng, at)
			}
			at = w.rng.End.Byte
			text := string(src[w.rng.Start.Byte:w.rng.End.Byte])
			if !w.quoted && strings.ReplaceAll(text, "\r", "") != w.text {
				t.Fatalf("%q is at %q", w.text, text)
			}
			switch {
			case !w.lineEnd():
				printed.WriteString(text + " ")
			case i > 0 && words[i-1].is(`\`):
				printed.WriteString("\\\n\n") // the backslash is a word, so another one continues its line
			default:
				printed.WriteByte('\n')
			}
		}
		again, _ := lex("x", printed.Bytes())
		again = again[:len(again)-1] // one more line end than was printed
		if len(again) != len(words) {
			t.Fatalf("%d words, then %d", len(words), len(again))
		}
		for i, w := range words {
			if again[i].text != w.text || again[i].quoted != w.quoted {
				t.Fatalf("%q, then %q", w.text, again[i].text)
			}
		}
	})
}
