// Package udp sends and receives datagrams on non-blocking sockets on Linux, with system calls that bypass Go's scheduler.
//
// The scheduler tracks system calls because they may block, and a monitor thread checks the blocked ones every 20 µs. The
// monitor sleeps while nothing runs and is woken by the next system call. A relay runs for a few microseconds and then waits
// for the next packet, so every packet woke a thread to monitor calls that never block. That took a third of the relay's CPU
// time with Go 1.26.
package udp
