package relay

import "testing"

func TestPollersForgetWhatIsClosed(t *testing.T) {
	a := newAllocator(t, Config{})
	for range 10 {
		c, _ := allocate(t, a, Request{})
		_ = c.Close()
	}
	open, _ := allocate(t, a, Request{})
	known := 0
	for _, p := range a.sockets.pollers {
		known += len(p.sockets)
		if s := p.socket(int32(open.socket.(*polledSocket).fd)); s != nil && s != open.socket {
			t.Error("a poller takes a closed socket for the one that is open")
		}
	}
	if known != 1 {
		t.Errorf("the pollers know %d sockets, want 1", known)
	}
}
