//go:build !linux

package patient

// A Lobby is where connections wait that have been quiet for a while. On this system, each waits on a goroutine of its own.
type Lobby struct{}

func (*Lobby) add(int, *Conn) *Lobby { return nil }

// remove is not called.
func (*Lobby) remove(int, *Conn) {}

// Close does nothing.
func (*Lobby) Close() {}
