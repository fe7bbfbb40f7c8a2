// Package udp sends and receives datagrams on non-blocking sockets on Linux, with system calls that bypass Go's scheduler. An
// event loop owns any number of Sockets, an Inbox that they receive into, and an Outbox that collects what they send.
//
// The scheduler tracks system calls because they may block, and a monitor thread checks the blocked ones every 20 µs. The monitor
// sleeps while nothing runs and is woken by the next system call. A relay runs for a few microseconds and then waits for the next
// packet, so every packet would wake a thread to monitor calls that never block. With Go 1.26, that took a third of the relay's CPU
// time.
//
// Most of the cost of a datagram is its path through the network stack rather than the system call: sendmmsg(2) and recvmmsg(2)
// save a tenth. Datagrams with the same destination or source can pass through the stack as one. In groups of ten, each then costs
// a quarter to a third as much. The Outbox and the Inbox use this.
package udp
