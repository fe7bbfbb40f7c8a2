package metadata

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckName(t *testing.T) {
	tests := []struct {
		name   string
		entry  error // of CheckName
		prefix error // of CheckPrefix
	}{
		{name: "/shared/comment"},
		{name: "/private/comment"},
		{name: "/SHARED/Comment"},
		{name: "/shared/vendor/deltachat/turn"},
		{name: "/shared/vendor/deltachat/turn/more"},
		{name: "/shared/with space"},
		{name: "/shared", entry: ErrNameRoot},
		{name: "/shared/vendor", entry: ErrNameVendor},
		{name: "/shared/VENDOR/deltachat", entry: ErrNameVendor},
		{name: "", entry: ErrNameRoot, prefix: ErrNameRoot},
		{name: "shared/comment", entry: ErrNameRoot, prefix: ErrNameRoot},
		{name: "/sharedcomment", entry: ErrNameRoot, prefix: ErrNameRoot},
		{name: "/other/comment", entry: ErrNameRoot, prefix: ErrNameRoot},
		{name: "/", entry: ErrNameComponent, prefix: ErrNameComponent},
		{name: "//shared/comment", entry: ErrNameComponent, prefix: ErrNameComponent},
		{name: "/shared//comment", entry: ErrNameComponent, prefix: ErrNameComponent},
		{name: "/shared/comment/", entry: ErrNameComponent, prefix: ErrNameComponent},
		{name: "/shared/a*", entry: ErrNameCharacter, prefix: ErrNameCharacter},
		{name: "/shared/%", entry: ErrNameCharacter, prefix: ErrNameCharacter},
		{name: "/shared/\x00", entry: ErrNameCharacter, prefix: ErrNameCharacter},
		{name: "/shared/\x1f", entry: ErrNameCharacter, prefix: ErrNameCharacter},
		{name: "/shared/\x7f", entry: ErrNameCharacter, prefix: ErrNameCharacter},
		{name: "/shared/ü", entry: ErrNameCharacter, prefix: ErrNameCharacter},
	}
	for _, test := range tests {
		if err := CheckName(test.name); !errors.Is(err, test.entry) {
			t.Errorf("CheckName(%q) = %v, want %v", test.name, err, test.entry)
		}
		if err := CheckPrefix(test.name); !errors.Is(err, test.prefix) {
			t.Errorf("CheckPrefix(%q) = %v, want %v", test.name, err, test.prefix)
		}
	}
}

func TestDepthCovers(t *testing.T) {
	tests := []struct {
		asked, name         string
		zero, one, infinity bool
	}{
		{"/shared/a", "/shared/a", true, true, true},
		{"/shared/a", "/shared/a/b", false, true, true},
		{"/shared/a", "/shared/a/b/c", false, false, true},
		{"/shared/a", "/shared/ab", false, false, false},
		{"/shared/a/b", "/shared/a", false, false, false},
		{"/shared", "/private/a", false, false, false},
	}
	for _, test := range tests {
		for depth, want := range []bool{test.zero, test.one, test.infinity} {
			if got := Depth(depth).Covers(test.asked, test.name); got != want {
				t.Errorf("DEPTH %v of %s covers %s: %v, want %v", Depth(depth), test.asked, test.name, got, want)
			}
		}
	}
}

func number(n uint32) *uint32 { return &n }

// getTests are also the seeds of FuzzGet.
var getTests = []struct {
	args string
	want Get
	err  bool
}{
	{args: ` "" /shared/comment`, want: Get{Names: []string{"/shared/comment"}}},
	{args: ` "" (/shared/comment /Shared/COMMENT /private/x)`, want: Get{Names: []string{"/shared/comment", "/private/x"}}},
	{args: ` INBOX "/shared/a \"b\" \\"`, want: Get{Mailbox: "INBOX", Names: []string{`/shared/a "b" \`}}},
	{args: " {0}\r\n {15+}\r\n/shared/comment", want: Get{Names: []string{"/shared/comment"}}},
	{args: " {3}\n\r\n) (~{9}\n/shared/a)", want: Get{Mailbox: "\r\n)", Names: []string{"/shared/a"}}},
	{args: ` (MAXSIZE 1024) "" /shared/a`, want: Get{MaxSize: number(1024), Names: []string{"/shared/a"}}},
	{args: ` (depth INFINITY maxsize 0) "" /shared`, want: Get{MaxSize: number(0), Depth: DepthInfinity, Names: []string{"/shared"}}},
	{args: ` "" (DEPTH 1) (/shared/a)`, want: Get{Depth: DepthOne, Names: []string{"/shared/a"}, OptionsLast: true}},
	{args: ` "" (DEPTH 0 MAXSIZE 4294967295) /shared/a`,
		want: Get{MaxSize: number(4294967295), Names: []string{"/shared/a"}, OptionsLast: true}},
	{args: ` (DEPTH 1) "" (MAXSIZE 5) (/shared/a)`,
		want: Get{MaxSize: number(5), Depth: DepthOne, Names: []string{"/shared/a"}, OptionsLast: true}},
	{args: ` () "" ()`},
	{args: ` "" /shared/a  `, want: Get{Names: []string{"/shared/a"}}},
	// What Dovecot takes besides.
	{args: `  ""  ( /shared/a  /shared/b )`, want: Get{Names: []string{"/shared/a", "/shared/b"}}},
	{args: ` ( MAXSIZE  1 ) "" /shared`, want: Get{MaxSize: number(1), Names: []string{"/shared"}}},
	{args: ` "" /private/vendor/x`, want: Get{Names: []string{"/private/vendor/x"}}},

	{args: ``, err: true},
	{args: ` `, err: true},
	{args: `"" /shared/a`, err: true},
	{args: ` ""`, err: true},
	{args: ` "" `, err: true},
	{args: ` "" (/shared/a`, err: true},
	{args: ` "" (/shared/a /shared/b) x`, err: true},
	{args: ` "" /shared/a /shared/b`, err: true},
	{args: ` "" ((/shared/a))`, err: true},
	{args: ` "" (MAXSIZE) /shared/a`, err: true},
	{args: ` "" (MAXSIZE -1) /shared/a`, err: true},
	{args: ` "" (MAXSIZE 1 MAXSIZE 1) /shared/a`, err: true},
	{args: ` (MAXSIZE 1) "" (MAXSIZE 1) /shared/a`, err: true},
	{args: ` (DEPTH 0 DEPTH 0) "" /shared/a`, err: true},
	{args: ` (DEPTH 2) "" /shared/a`, err: true},
	{args: ` (DEPTH "1") "" /shared/a`, err: true},
	{args: ` (NOPE 1) "" /shared/a`, err: true},
	{args: ` "" "/shared/a`, err: true},
	{args: ` "" "/shared/\a"`, err: true},
	{args: " \"\" {10}\r\n/shared/a", err: true},
	{args: " \"\" {99999999999999999999}\r\n/shared/a", err: true},
	{args: " \"\" {9-}\r\n/shared/a", err: true},
	{args: " \"\" {9}/shared/a", err: true},
}

func TestParseGet(t *testing.T) {
	for _, test := range getTests {
		for _, end := range []string{"\r\n", "\n"} {
			got, err := ParseGet([]byte(test.args + end))
			if (err != nil) != test.err {
				t.Errorf("ParseGet(%q): error %v", test.args+end, err)
			} else if diff := cmp.Diff(test.want, got); err == nil && len(got.Names)+len(test.want.Names) > 0 && diff != "" {
				t.Errorf("ParseGet(%q): %s", test.args+end, diff)
			}
		}
		if _, err := ParseGet([]byte(test.args)); err == nil {
			t.Errorf("ParseGet(%q) without a line end: no error", test.args)
		}
	}
}

func FuzzGet(f *testing.F) {
	for _, test := range getTests {
		f.Add([]byte(test.args + "\r\n"))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		get, err := ParseGet(args)
		if err != nil {
			return
		}
		command := get.Append(nil, "tag")
		got, err := ParseGet(command[len("tag GETMETADATA"):])
		if err != nil {
			t.Fatalf("%q: %v", command, err)
		}
		get.OptionsLast = false
		if diff := cmp.Diff(get, got); diff != "" {
			t.Fatalf("%q became %q: %s", args, command, diff)
		}
	})
}

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

// FuzzSetReader checks that it makes no difference how the arguments are cut, that none is both complete and wrong, and that it
// finds the names of what AppendResponse writes, whose entries are in the form of SETMETADATA's.
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
		written := AppendResponse(nil, "", []Entry{{name, String(value)}, {"/shared/x", NIL}})
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

func TestAppendResponse(t *testing.T) {
	tests := []struct {
		mailbox string
		entries []Entry
		want    string
	}{
		{"", nil, ""},
		{"", []Entry{{"/shared/a", NIL}}, "* METADATA \"\" (/shared/a NIL)\r\n"},
		{"", []Entry{{"/shared/a", String("")}, {"/shared/b c", String(`"\`)}}, `* METADATA "" (/shared/a "" "/shared/b c" "\"\\")` + "\r\n"},
		{"IN\"BOX", []Entry{{"/shared/a", String("ü")}, {"/shared/b", String("a\r\nb")}},
			"* METADATA \"IN\\\"BOX\" (/shared/a {2}\r\nü /shared/b {4}\r\na\r\nb)\r\n"},
		{"Entwürfe", []Entry{{"/shared/a", String("\t")}}, "* METADATA {9}\r\nEntwürfe (/shared/a {1}\r\n\t)\r\n"},
	}
	for _, test := range tests {
		if got := string(AppendResponse([]byte("x"), test.mailbox, test.entries)); got != "x"+test.want {
			t.Errorf("got %q, want %q", got, "x"+test.want)
		}
	}
}

func TestParseResponseErrors(t *testing.T) {
	for _, response := range []string{
		"", "* METADATA\r\n", "* METADATA \"\"\r\n", "* METADATA \"\" (/a)\r\n", "* METADATA \"\" (/a x)\r\n",
		"* METADATA \"\" (/a \"1\"\r\n", "* METADATA \"\" (/a \"1\")", "* OTHER \"\" /a\r\n", "a METADATA \"\" /a\r\n",
	} {
		if _, err := ParseResponse([]byte(response)); err == nil {
			t.Errorf("ParseResponse(%q): no error", response)
		}
	}
}

// FuzzResponse checks that what AppendResponse writes is read back the same.
func FuzzResponse(f *testing.F) {
	f.Add("INBOX", "/shared/a", "value")
	f.Add("", "/shared/b c", "a\r\n\"ü")
	f.Fuzz(func(t *testing.T, mailbox, name, value string) {
		written := AppendResponse(nil, mailbox, []Entry{{name, String(value)}, {name, NIL}})
		got, err := ParseResponse(written)
		if err != nil || got.Mailbox != mailbox || !got.Values || len(got.Names) != 2 || got.Names[0] != strings.ToLower(name) {
			t.Fatalf("%q read as %+v, %v", written, got, err)
		}
	})
}
