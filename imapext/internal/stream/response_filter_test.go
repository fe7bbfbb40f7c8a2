package stream

import (
	"slices"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// filterResponse gives response to a ResponseFilter in pieces of at most size bytes, and returns what passes.
func filterResponse(response, without string, size int) string {
	f := NewResponseFilter(func(name string) bool { return name == without })
	var out []byte
	for rest := []byte(response); len(rest) > 0; {
		n, passed, state := f.Next(rest[:min(size, len(rest))])
		out = append(out, passed...)
		rest = rest[n:]
		if state != Filtering {
			return string(append(out, rest...))
		}
	}
	return string(out)
}

func TestResponseFilter(t *testing.T) {
	long, longer := strings.Repeat("x", maxText+1), strings.Repeat("y", 2000)
	for _, tt := range []struct {
		response, without, want string
	}{
		{`* METADATA "" (/a "1" /B {1}` + "\r\n) /c NIL)\r\n", "/a", `* METADATA "" (/B {1}` + "\r\n) /c NIL)\r\n"},
		{`* METADATA "" (/a "1" /B {1}` + "\r\n) /c NIL)\r\n", "/b", `* METADATA "" (/a "1" /c NIL)` + "\r\n"},
		{`* METADATA "" (/a "1" /B ~{2+}` + "\n)) /c NIL)\r\n", "/c", `* METADATA "" (/a "1" /B ~{2+}` + "\n)))\r\n"},
		{`* METADATA "" (/a "\"" "/\b" "\\")` + "\r\n", "/b", `* METADATA "" (/a "\"")` + "\r\n"},
		{`* METADATA "" (/` + long + ` "/a" {2000}` + "\r\n" + longer + ` "/a" /a "/a")` + "\r\n", "/a",
			`* METADATA "" (/` + long + ` "/a" {2000}` + "\r\n" + longer + ` "/a")` + "\r\n"},
		{`* METADATA "" (/a "` + long + `" {2}` + "\r\n/a {2000}\r\n" + longer + " /a NIL)\r\n", "/a", ""},
		{"* metadata {0}\r\n (\"/a\" \"1\")\r\n", "/a", ""},
		{"* METADATA \"\" ()\r\n", "/a", ""},
		{`* METADATA "" /a "/b" /c` + "\r\n", "/b", `* METADATA "" /a /c` + "\r\n"},
		{`* METADATA "" /a /` + long + " /a\r\n", "/a", `* METADATA "" /` + long + "\r\n"},
		{"* METADATA \"\" /a\r\n", "/a", ""},
		{"* METADATA \"/a\" (/a NIL)\r\n", "/a", "* METADATA \"/a\" (/a NIL)\r\n"},
		{"* METADATA {2}\r\n/a (/a NIL)\r\n", "/a", "* METADATA {2}\r\n/a (/a NIL)\r\n"},
		{"* METADATA \"\" what {is}\r\n", "/a", "* METADATA \"\" what {is}\r\n"},
		{"* METADATA \"\r\n", "/a", "* METADATA \"\r\n"},
	} {
		for _, size := range []int{1 << 20, 1, 2, 7} {
			if got := filterResponse(tt.response, tt.without, size); got != tt.want {
				t.Errorf("%.100q without %s, %d bytes at a time: %.100q, want %.100q", tt.response, tt.without, size, got, tt.want)
			}
		}
	}
}

// FuzzResponseFilter checks that a valid response (RFC 5464) without the removed entry is valid, with all other entries, and that
// the result does not depend on how the response is cut.
func FuzzResponseFilter(f *testing.F) {
	f.Add(`* METADATA "" (/a "1" /B {1}`+"\r\n) /c NIL)\r\n", "/b")
	f.Add("* METADATA {0}\r\n (/a \"\\\"\" \"/a\" ~{2}\r\n/a)\r\n", "/a")
	f.Add("* METADATA \"\" /a \"/b\"\r\n", "/a")
	f.Add("* METADATA {5}\r\nINBOX /a\r\n", "/a")
	f.Add("* METADATA \"\" (/a \"1\") /a\r\n", "/a")
	f.Fuzz(func(t *testing.T, response, without string) {
		got := filterResponse(response, without, len(response))
		if cut := filterResponse(response, without, 1); cut != got {
			t.Fatalf("%q becomes %q, and cut %q", response, got, cut)
		}
		mailbox, before, err := metadata.ParseResponse([]byte(response))
		if err != nil || mailbox != "" || strings.Contains(response, " \r\n") {
			return
		}
		want := slices.DeleteFunc(before, func(e metadata.Entry) bool { return strings.ToLower(e.Name) == without })
		if len(want) == 0 {
			if got != "" {
				t.Fatalf("%q becomes %q, want nothing", response, got)
			}
			return
		}
		if _, after, err := metadata.ParseResponse([]byte(got)); err != nil || !slices.Equal(after, want) {
			t.Fatalf("%q becomes %q, %v, want the entries %v", response, got, err, want)
		}
	})
}
