package module

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

type recorder struct {
	name  string
	calls *[]string
	err   error
}

func (r recorder) Start(context.Context) error {
	*r.calls = append(*r.calls, "start "+r.name)
	return r.err
}

func (r recorder) Shutdown(context.Context) error {
	*r.calls = append(*r.calls, "stop "+r.name)
	return nil
}

func TestGroupStopsInReverse(t *testing.T) {
	var calls []string
	var g Group
	g.Add("turn", recorder{"turn", &calls, nil})
	g.Add("imap", recorder{"imap", &calls, nil})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"start turn", "start imap", "stop imap", "stop turn"}
	if !slices.Equal(calls, want) {
		t.Errorf("got %v, want %v", calls, want)
	}
}

func TestGroupStartFailureStopsTheStarted(t *testing.T) {
	var calls []string
	inUse := errors.New("address already in use")
	var g Group
	g.Add("turn", recorder{"turn", &calls, nil})
	g.Add("imap", recorder{"imap", &calls, inUse})
	g.Add("http", recorder{"http", &calls, nil})
	err := g.Start(t.Context())
	if !errors.Is(err, inUse) || !strings.Contains(err.Error(), "imap: ") {
		t.Errorf("got error %v, want it to name imap and wrap %v", err, inUse)
	}
	want := []string{"start turn", "start imap", "stop turn"}
	if !slices.Equal(calls, want) {
		t.Errorf("got %v, want %v", calls, want)
	}
}
