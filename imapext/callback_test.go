package imapext_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/imapext"
	"github.com/mailturn/mailturn/imapext/metadata"
)

// callsBack is a source of entries that calls the Filter in both callbacks.
type callsBack struct {
	filter *imapext.Filter
	client strings.Builder // what was written to the client
	calls  []string
	gave   []metadata.Entry
}

func (c *callsBack) call(name string) {
	c.calls = append(c.calls, name)
	c.filter.Session()
	c.filter.LoggedIn()
	c.filter.Identified()
	c.filter.Quiet()
	c.filter.AwaitsContinuation()
	c.filter.RepeatExists()
	c.filter.Resume()
	c.filter.WriteClient(&c.client)
}

func (c *callsBack) Entries(s imapext.Session) []metadata.Entry {
	c.call("Entries")
	return entries{}.Entries(s)
}

func (c *callsBack) Gave(entries []metadata.Entry) {
	c.call("Gave")
	c.gave = append(c.gave, entries...)
}

// TestCallbacksMayCallTheFilter checks that callbacks may call the Filter, for a command that is answered without the backend and
// for one whose answer the backend completes.
func TestCallbacksMayCallTheFilter(t *testing.T) {
	for _, tt := range []struct{ name, capabilities, command, answer, want string }{
		{"answered without the backend", "IMAP4rev1", "b GETMETADATA \"\" /shared/vendor/deltachat/turn\r\n", "",
			"b OK GETMETADATA completed\r\n"},
		{"answered with the backend", "IMAP4rev1 METADATA", "b GETMETADATA \"\" (/shared/vendor/deltachat/turn /shared/comment)\r\n",
			"* METADATA \"\" (/shared/comment \"x\")\r\nb OK done\r\n", "b OK done\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c callsBack
			c.filter = imapext.New(imapext.Options{Entries: &c, Gave: c.Gave, TLS: true, CountMessages: true})
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.filter.FromBackend([]byte("* PREAUTH [CAPABILITY " + tt.capabilities + "] hi\r\n"))
				c.filter.FromClient([]byte(tt.command))
				c.filter.WriteBackend(io.Discard)
				c.filter.FromBackend([]byte(tt.answer))
				c.filter.WriteClient(&c.client)
			}()
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Fatal("a callback that calls the Filter does not return")
			}
			if got := strings.Join(c.calls, " "); !strings.HasPrefix(got, "Entries") || strings.Count(got, "Gave") != 1 || !strings.HasSuffix(got, "Gave") {
				t.Errorf("callbacks in the order %s", got)
			}
			if len(c.gave) != 1 || c.gave[0].Name != "/shared/vendor/deltachat/turn" {
				t.Errorf("Gave was called with %v", c.gave)
			}
			if got := c.client.String(); !strings.Contains(got, "* METADATA \"\" (/shared/vendor/deltachat/turn ") || !strings.HasSuffix(got, tt.want) {
				t.Errorf("the client got %q", got)
			}
		})
	}
}
