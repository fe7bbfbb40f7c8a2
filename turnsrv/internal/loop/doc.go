// Package loop runs event loops: each one waits for many descriptors with one epoll instance, and does all work for them on one
// thread. What a loop owns requires no lock. Loops that have little to do share a thread: see Group.
//
// A loop differs from Go's network poller in what a wait costs. Where packets come one at a time, every packet is a wait, and
// waking a goroutine through the poller costs more than relaying the packet. A loop first waits with a system call that Go's
// scheduler does not know of, and under load it waits for a moment after each round, so that the next round has more to do.
//
// Loops exist on Linux only. On other systems New returns errors.ErrUnsupported.
package loop
