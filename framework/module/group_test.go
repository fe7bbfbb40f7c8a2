package module

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
)

// recorder records the calls of its methods. If others is not nil, its Shutdown waits until as many are being shut down.
type recorder struct {
	name   string
	log    *callLog
	err    error
	others *sync.WaitGroup
}

type callLog struct {
	mu    sync.Mutex
	calls []string
}

func (l *callLog) add(call string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, call)
}

func (r recorder) Start(context.Context) error {
	r.log.add("start " + r.name)
	return r.err
}

func (r recorder) Shutdown(context.Context) error {
	if r.others != nil {
		r.others.Done()
		r.others.Wait()
	}
	r.log.add("stop " + r.name)
	return r.err
}

// TestGroupStopsTogether hangs if endpoints are shut down one after another.
func TestGroupStopsTogether(t *testing.T) {
	var log callLog
	var both sync.WaitGroup
	both.Add(2)
	var g Group
	g.Add("turn", recorder{"turn", &log, nil, &both})
	g.Add("imap", recorder{"imap", &log, nil, &both})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(log.calls[2:])
	want := []string{"start turn", "start imap", "stop imap", "stop turn"}
	if !slices.Equal(log.calls, want) {
		t.Errorf("got %v, want %v", log.calls, want)
	}
}

// TestGroupShutdownThose shuts down one endpoint, and then the other.
func TestGroupShutdownThose(t *testing.T) {
	var log callLog
	var g Group
	for _, name := range []string{"turn", "imap"} {
		g.Add(name, recorder{name: name, log: &log})
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.ShutdownThose(t.Context(), func(e Endpoint) bool { return e.(recorder).name == "turn" }); err != nil {
		t.Fatal(err)
	}
	log.add("between")
	if err := g.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"start turn", "start imap", "stop turn", "between", "stop imap"}; !slices.Equal(log.calls, want) {
		t.Errorf("got %v, want %v", log.calls, want)
	}
}

func TestGroupStartFailureStopsTheStarted(t *testing.T) {
	var log callLog
	inUse := errors.New("address already in use")
	var g Group
	g.Add("turn", recorder{"turn", &log, nil, nil})
	g.Add("imap", recorder{"imap", &log, inUse, nil})
	g.Add("http", recorder{"http", &log, nil, nil})
	err := g.Start(t.Context())
	if !errors.Is(err, inUse) || !strings.Contains(err.Error(), "imap: ") {
		t.Errorf("got error %v, want it to name imap and wrap %v", err, inUse)
	}
	want := []string{"start turn", "start imap", "stop turn"}
	if !slices.Equal(log.calls, want) {
		t.Errorf("got %v, want %v", log.calls, want)
	}
}
