package module

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

type testSchema struct {
	Realm string `hcl:"realm" reload:"restart"`
	Users string `hcl:"users"`
}

// testReloader records the calls of its methods. It cannot prepare the users "bad".
type testReloader struct {
	recorder
	config *testSchema
}

func (r testReloader) Prepare(c testSchema) (Change, error) {
	if c.Users == "bad" {
		return Change{}, errBad
	}
	r.log.add("prepare " + r.name)
	return Change{
		Commit:  func() { r.log.add("commit " + r.name); *r.config = c },
		Discard: func() { r.log.add("discard " + r.name) },
	}, nil
}

var errBad = errors.New("bad users")

// testParts returns parts of two endpoints that write to log.
func testParts(log *callLog, turn, imap testSchema) []Part {
	construct := func(name string) func(testSchema, *slog.Logger) (testReloader, error) {
		return func(c testSchema, _ *slog.Logger) (testReloader, error) {
			return testReloader{recorder{name, log, nil, nil}, &c}, nil
		}
	}
	return []Part{
		NewPart("turn", "a", testSchema{}, turn, construct("turn")),
		NewPart("imap", "b", testSchema{}, imap, construct("imap")),
	}
}

func TestReload(t *testing.T) {
	var log callLog
	running := make(map[string]Endpoint)
	for _, p := range testParts(&log, testSchema{}, testSchema{}) {
		endpoint, err := p.Build(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		running[p.String()] = endpoint
	}
	err := Reload(running, testParts(&log, testSchema{Users: "good"}, testSchema{Users: "bad"}))
	if !errors.Is(err, errBad) || !strings.HasPrefix(err.Error(), `endpoint imap "b": `) {
		t.Errorf("got %v, want an error that names the endpoint", err)
	}
	if err := Reload(running, testParts(&log, testSchema{Users: "better"}, testSchema{Users: "best"})); err != nil {
		t.Error(err)
	}
	want := []string{"prepare turn", "discard turn", "prepare turn", "prepare imap", "commit turn", "commit imap"}
	if !slices.Equal(log.calls, want) {
		t.Errorf("got %v, want %v", log.calls, want)
	}
	if got := running[`endpoint turn "a"`].(testReloader).config.Users; got != "better" {
		t.Errorf("users are %q", got)
	}
	if err := running[`endpoint turn "a"`].Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestNeedsRestart(t *testing.T) {
	running := testParts(nil, testSchema{Realm: "a", Users: "x"}, testSchema{})
	if err := NeedsRestart(running, testParts(nil, testSchema{Realm: "a", Users: "y"}, testSchema{Users: "z"})); err != nil {
		t.Error(err)
	}
	next := testParts(nil, testSchema{Realm: "b"}, testSchema{})
	next[1] = NewPart("imap", "c", testSchema{}, testSchema{}, func(testSchema, *slog.Logger) (testReloader, error) { return testReloader{}, nil })
	const want = `endpoint turn "a": a change of realm requires a restart
endpoint imap "c" is new, which requires a restart
endpoint imap "b" was removed, which requires a restart`
	if err := NeedsRestart(running, next); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
