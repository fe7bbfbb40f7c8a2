// Package loop runs event loops. Each one waits for many descriptors with one epoll instance, and does all work for them on one
// thread, so that its state requires no lock. Loops that have little to do share a thread: see Group.
//
// The difference from Go's network poller is the cost of a wait. When packets arrive one at a time, there is a wait for every
// packet, and waking a goroutine through the poller costs more than relaying the packet. A loop first waits with a system call that
// bypasses Go's scheduler. Under load, it also waits for a moment after each round, so that the next round has more to do.
//
// Loops exist on Linux only. On other systems New returns errors.ErrUnsupported.
package loop
