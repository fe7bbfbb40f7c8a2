// Package link connects clients to a TURN server: over a UDP socket, TCP and TLS connections, and DTLS associations. Each link
// passes received messages to a Handler on one goroutine. Responses and data can be sent from any goroutine.
package link
