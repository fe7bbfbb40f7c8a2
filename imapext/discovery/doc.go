// Package discovery is the client's side: it asks an IMAP server for the TURN relay of its users as Delta Chat core does, reads
// the answer as strictly as core does, and turns it into the ICE servers that core passes to WebRTC. It refuses what core
// refuses, and falls back to public servers where core does.
//
// The order is core's: connect, log in, COMPRESS if it is offered, GETMETADATA, then Decide and Resolve. Discover does the
// part that talks to the server in one call. Client does each step of it, for programs such as mailturn probe that report on
// them.
package discovery
