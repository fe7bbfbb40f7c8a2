package discovery

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailturn/mailturn/imapext/metadata"
)

// responses are those that core's parser accepts, and those that end its session.
var responses = []struct {
	name, response string
	mailbox        string
	entries        []string // name=value, name for NIL
	refused        bool
}{
	{name: "quoted", response: `* METADATA "" (/shared/vendor/deltachat/turn "h:1:5:pw")`, entries: []string{"/shared/vendor/deltachat/turn=h:1:5:pw"}},
	{name: "literal", response: "* METADATA \"\" (/shared/vendor/deltachat/turn {8}\r\nh:1:5:pw)", entries: []string{"/shared/vendor/deltachat/turn=h:1:5:pw"}},
	{name: "NIL", response: `* METADATA "" (/shared/comment nil /shared/admin "x")`, entries: []string{"/shared/comment", "/shared/admin=x"}},
	{name: "empty value", response: `* METADATA "" (/shared/comment "")`, entries: []string{"/shared/comment="}},
	{name: "literal in UTF-8", response: "* METADATA \"\" (/shared/comment {2}\r\né)", entries: []string{"/shared/comment=é"}},
	{name: "quoted name", response: `* metadata "" ("/shared/comment" "x")`, entries: []string{"/shared/comment=x"}},
	{name: "name as literal", response: "* METADATA \"\" ({15}\r\n/shared/comment \"x\")", entries: []string{"/shared/comment=x"}},
	{name: "escape is kept", response: `* METADATA "" (/shared/comment "a\"b\\")`, entries: []string{`/shared/comment=a\"b\\`}},
	{name: "a mailbox", response: `* METADATA "INBOX" (/private/comment "x")`, mailbox: "INBOX", entries: []string{"/private/comment=x"}},
	{name: "without values", response: `* METADATA "" /shared/comment /private/vendor/x`, entries: []string{"/shared/comment", "/private/vendor/x"}},
	{name: "spaces at the end", response: `* METADATA "" (/shared/comment "x")  `, entries: []string{"/shared/comment=x"}},
	{name: "upper case below vendor", response: `* METADATA "" (/shared/vendor/DeltaChat/TURN "x")`, entries: []string{"/shared/vendor/DeltaChat/TURN=x"}},
	{name: "double slash", response: `* METADATA "" (/shared/comment//x/ "x")`, entries: []string{"/shared/comment//x/=x"}},

	{name: "mailbox as an atom", response: `* METADATA INBOX (/shared/comment "x")`, refused: true},
	{name: "mailbox as a literal", response: "* METADATA {0}\r\n (/shared/comment \"x\")", refused: true},
	{name: "empty list", response: `* METADATA "" ()`, refused: true},
	{name: "nothing", response: `* METADATA "" `, refused: true},
	{name: "no list", response: `* METADATA ""`, refused: true},
	{name: "another name below /shared", response: `* METADATA "" (/shared/turn "x")`, refused: true},
	{name: "a name that only begins as admin", response: `* METADATA "" (/shared/adminx "x")`, refused: true},
	{name: "a device token", response: `* METADATA "" (/private/devicetoken "x")`, refused: true},
	{name: "private admin", response: `* METADATA "" (/private/admin "x")`, refused: true},
	{name: "no vendor", response: `* METADATA "" (/shared/vendor "x")`, refused: true},
	{name: "empty vendor", response: `* METADATA "" (/shared/vendor/ "x")`, refused: true},
	{name: "upper case", response: `* METADATA "" (/SHARED/comment "x")`, refused: true},
	{name: "another root", response: `* METADATA "" (/public/comment "x")`, refused: true},
	{name: "wildcard", response: `* METADATA "" ("/shared/comment/*" "x")`, refused: true},
	{name: "atom as a value", response: `* METADATA "" (/shared/comment x)`, refused: true},
	{name: "no value", response: `* METADATA "" (/shared/comment)`, refused: true},
	{name: "8 bits in quotes", response: "* METADATA \"\" (/shared/comment \"é\")", refused: true},
	{name: "literal that is not UTF-8", response: "* METADATA \"\" (/shared/comment {1}\r\n\xff)", refused: true},
	{name: "NUL in a literal", response: "* METADATA \"\" (/shared/comment {1}\r\n\x00)", refused: true},
	{name: "literal8", response: "* METADATA \"\" (/shared/comment ~{1}\r\nx)", refused: true},
	{name: "literal too short", response: "* METADATA \"\" (/shared/comment {9}\r\nx)", refused: true},
	{name: "two spaces", response: `* METADATA "" (/shared/comment  "x")`, refused: true},
	{name: "two spaces between entries", response: `* METADATA "" (/shared/comment "x"  /shared/admin "x")`, refused: true},
	{name: "list without end", response: `* METADATA "" (/shared/comment "x"`, refused: true},
	{name: "string without end", response: `* METADATA "" (/shared/comment "x`, refused: true},
	{name: "data after the list", response: `* METADATA "" (/shared/comment "x") x`, refused: true},
}

func TestParseMetadata(t *testing.T) {
	for _, tt := range responses {
		t.Run(tt.name, func(t *testing.T) {
			mailbox, entries, err := ParseMetadata([]byte(tt.response + "\r\n"))
			if errors.Is(err, ErrUnparsable) != tt.refused || (err != nil) != tt.refused {
				t.Fatalf("got %v, refused should be %v", err, tt.refused)
			}
			var got []string
			for _, entry := range entries {
				text := entry.Name
				if !entry.Value.IsNIL() {
					text += "=" + entry.Value.Octets()
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(tt.entries, got); diff != "" || mailbox != tt.mailbox {
				t.Errorf("mailbox %q, entries (-want +got):\n%s", mailbox, diff)
			}
		})
	}
	if _, _, err := ParseMetadata([]byte("* METADATA \"\" (/shared/comment \"x\")\n")); !errors.Is(err, ErrUnparsable) {
		t.Errorf("a line that ends in a bare LF: got %v", err)
	}
}

// FuzzParseMetadata compares the strict parser with that of RFC 5464, which has to accept what core accepts, with the same names.
func FuzzParseMetadata(f *testing.F) {
	for _, tt := range responses {
		f.Add([]byte(tt.response + "\r\n"))
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		_, entries, err := ParseMetadata(response)
		if err != nil {
			return
		}
		if len(entries) == 0 {
			t.Fatalf("no entries in %q", response)
		}
		_, lenient, err := metadata.ParseResponse(response)
		if err != nil {
			t.Fatalf("%q is METADATA to core, and to RFC 5464: %v", response, err)
		}
		if len(lenient) != len(entries) {
			t.Fatalf("%q has %d entries to core and %d by RFC 5464", response, len(entries), len(lenient))
		}
		for i, entry := range lenient {
			if !strings.EqualFold(entry.Name, entries[i].Name) && !strings.Contains(entries[i].Name, `\`) {
				t.Errorf("entry %d of %q is %q to core and %q by RFC 5464", i, response, entries[i].Name, entry.Name)
			}
		}
	})
}

// TestServerSideIsParsable parses what our own IMAP endpoint writes.
func TestServerSideIsParsable(t *testing.T) {
	entries := []metadata.Entry{
		{Name: TURNEntry, Value: metadata.String("turn.example.org:3478:1758650868:8Dqkyyu11MVESBqjbIylmB06rv8=")},
		{Name: "/shared/comment", Value: metadata.String("Grüße")},
		{Name: "/shared/admin", Value: metadata.NIL},
	}
	_, got, err := ParseMetadata(metadata.AppendResponse(nil, "", entries))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(entries, got, cmp.Comparer(func(a, b metadata.Value) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestDecide(t *testing.T) {
	now := time.Unix(1_758_000_000, 0)
	turn := func(value string) metadata.Entry {
		return metadata.Entry{Name: TURNEntry, Value: metadata.String(value)}
	}
	for _, tt := range []struct {
		name    string
		entries []metadata.Entry
		host    string
		reason  error
	}{
		{"good", []metadata.Entry{turn("h:1:1758650868:pw")}, "h", nil},
		{"nothing", nil, "", ErrNoEntry},
		{"NIL", []metadata.Entry{{Name: TURNEntry}}, "", ErrNoEntry},
		{"another case", []metadata.Entry{{Name: "/shared/vendor/DeltaChat/turn", Value: metadata.String("h:1:5:pw")}}, "", ErrNoEntry},
		{"turns alone", []metadata.Entry{{Name: TURNSEntry, Value: metadata.String("h:1:5:pw")}}, "", ErrNoEntry},
		{"no number", []metadata.Entry{turn("h:1:alice:pw")}, "", ErrBadValue},
		{"the last one that parses", []metadata.Entry{turn("h:1:5:pw"), turn("i:1:5:pw"), turn("bad")}, "i", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := Decide(tt.entries, now)
			if d.Fallback != (tt.reason != nil) || !errors.Is(d.Reason, tt.reason) || d.Value.Hostname != tt.host {
				t.Errorf("got host %q, fallback %v because %v", d.Value.Hostname, d.Fallback, d.Reason)
			}
			if d.Fallback && (!d.Expires.Equal(now.Add(7*24*time.Hour)) || len(d.Servers()) != 1) {
				t.Errorf("the fallback ends at %v with %d servers", d.Expires, len(d.Servers()))
			}
		})
	}
}
