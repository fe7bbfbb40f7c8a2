package metadata

import (
	"errors"
	"slices"
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
		{name: "/shared", entry: errNameRoot},
		{name: "/shared/vendor", entry: errNameVendor},
		{name: "/shared/VENDOR/deltachat", entry: errNameVendor},
		{name: "", entry: errNameRoot, prefix: errNameRoot},
		{name: "shared/comment", entry: errNameRoot, prefix: errNameRoot},
		{name: "/sharedcomment", entry: errNameRoot, prefix: errNameRoot},
		{name: "/other/comment", entry: errNameRoot, prefix: errNameRoot},
		{name: "/", entry: errNameComponent, prefix: errNameComponent},
		{name: "//shared/comment", entry: errNameComponent, prefix: errNameComponent},
		{name: "/shared//comment", entry: errNameComponent, prefix: errNameComponent},
		{name: "/shared/comment/", entry: errNameComponent, prefix: errNameComponent},
		{name: "/shared/a*", entry: errNameCharacter, prefix: errNameCharacter},
		{name: "/shared/%", entry: errNameCharacter, prefix: errNameCharacter},
		{name: "/shared/\x00", entry: errNameCharacter, prefix: errNameCharacter},
		{name: "/shared/\x1f", entry: errNameCharacter, prefix: errNameCharacter},
		{name: "/shared/\x7f", entry: errNameCharacter, prefix: errNameCharacter},
		{name: "/shared/ü", entry: errNameCharacter, prefix: errNameCharacter},
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
	// Dovecot accepts these too.
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
		if _, _, err := ParseResponse([]byte(response)); err == nil {
			t.Errorf("ParseResponse(%q): no error", response)
		}
	}
}

// FuzzResponse checks that ParseResponse returns what AppendResponse has written.
func FuzzResponse(f *testing.F) {
	f.Add("INBOX", "/shared/a", "value")
	f.Add("", "/shared/b c", "a\r\n\"ü")
	f.Fuzz(func(t *testing.T, mailbox, name, value string) {
		entries := []Entry{{name, String(value)}, {name, NIL}}
		written := AppendResponse(nil, mailbox, entries)
		gotMailbox, got, err := ParseResponse(written)
		if err != nil || gotMailbox != mailbox || !slices.Equal(got, entries) {
			t.Fatalf("%q is read as %q, %v, %v", written, gotMailbox, got, err)
		}
	})
}
