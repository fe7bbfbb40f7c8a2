package stream

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/imapext/metadata"
)

func TestSetReader(t *testing.T) {
	const long = 100000
	for _, tt := range []struct {
		args    string
		names   []string
		mailbox bool
		invalid bool
	}{
		{args: ` "" (/Shared/comment "text")`, names: []string{"/shared/comment"}},
		{args: ` "" (/a NIL /b nil /c "" /d {2+}` + "\r\n\r\n)", names: []string{"/a", "/b", "/c", "/d"}},
		{args: " {0}\r\n ({2}\r\n/a ~{2}\r\n\x00\xff)", names: []string{"/a"}},
		{args: fmt.Sprintf(" \"\" (/a {%d}\r\n%s /b \"%[2]s\" %[2]s {4}\r\n\r\n\r\n /c NIL)", long, strings.Repeat("x", long)),
			names: []string{"/a", "/b", "/c"}},
		{args: `  ""  ( /a  "1" "/b""2"/c atom ) `, names: []string{"/a", "/b", "/c"}},
		{args: `""("/a\"b" "/c" /d "\\")`, names: []string{`/a"b`, "/d"}},
		{args: ` "" ()`},
		{args: " INBOX (/a NIL)", names: []string{"/a"}, mailbox: true},
		{args: " {5}\r\nINBOX anything (", mailbox: true, invalid: true},
		{args: ` "" /a "text"`, invalid: true},
		{args: ` "" (/a)`, names: []string{"/a"}, invalid: true},
		{args: ` "" (/a "1"`, names: []string{"/a"}, invalid: true},
		{args: ` "" (/a ("1"))`, names: []string{"/a"}, invalid: true},
		{args: ` "" (/a "1" (/b "2"))`, names: []string{"/a"}, invalid: true},
		{args: ` "" (/a "1") (/b "2")`, names: []string{"/a"}, invalid: true},
		{args: ` "" (/a "1")x`, names: []string{"/a"}, invalid: true},
		{args: " \"\" (/a \"1\\\n\" /b NIL)", names: []string{"/a"}, invalid: true},
	} {
		for _, size := range []int{1 << 20, 1, 2, 7} {
			var r SetReader
			for piece := range slices.Chunk([]byte(tt.args+"\r\n"), size) {
				r.Read(piece)
			}
			if !slices.Equal(r.Names, tt.names) || r.Server() == tt.mailbox || r.Valid() == tt.invalid {
				t.Errorf("%.100q, %d bytes at a time: names %q, server %t, valid %t", tt.args, size, r.Names, r.Server(), r.Valid())
			}
		}
	}
}

// FuzzSetReader checks that the result does not depend on how the arguments are cut, that no arguments are both complete and
// invalid, and that the names in what AppendResponse writes are found: its entries have the form of SETMETADATA's.
func FuzzSetReader(f *testing.F) {
	f.Add(" \"\" (/a {3+}\r\n1)2 \"/B\" NIL)\r\n", "/shared/c", "4")
	f.Add(" {0}\r\n({2000}\r\n/a", "a b", "\r\n")
	f.Fuzz(func(t *testing.T, args, name, value string) {
		var whole, cut SetReader
		whole.Read([]byte(args))
		for i := range len(args) {
			cut.Read([]byte(args[i : i+1]))
		}
		if !slices.Equal(whole.Names, cut.Names) || whole.Server() != cut.Server() || whole.Valid() != cut.Valid() || whole.InValue() != cut.InValue() {
			t.Fatalf("%q is read as %q, and cut as %q", args, whole.Names, cut.Names)
		}
		written := metadata.AppendResponse(nil, "", []metadata.Entry{{Name: name, Value: metadata.String(value)}, {Name: "/shared/x"}})
		var r SetReader
		r.Read(written[len("* METADATA"):])
		want := []string{strings.ToLower(name), "/shared/x"}
		if len(name) > maxText {
			want = want[1:]
		}
		if !slices.Equal(r.Names, want) || !r.Server() || !r.Valid() {
			t.Fatalf("%q is read as %q, valid %t", written, r.Names, r.Valid())
		}
	})
}
