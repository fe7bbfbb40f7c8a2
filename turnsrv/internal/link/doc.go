// Package link is how clients reach a TURN server: the datagrams of a UDP socket, the frames of TCP and TLS connections, and DTLS
// associations. Each link calls a Handler with what arrives, on one goroutine, and sends answers and data from any.
package link
