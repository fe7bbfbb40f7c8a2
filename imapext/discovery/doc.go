// Package discovery is the client's half: it asks an IMAP server for the TURN relay of its users as Delta Chat core does,
// reads the answer as strictly as core reads it, and turns it into the ICE servers that core hands to WebRTC. What core
// refuses is refused here, and where core falls back to public servers, so does this package.
//
// The order is core's: connect, LOGIN, COMPRESS if it is offered, GETMETADATA, then Decide and Resolve. Discover walks
// it in one call; whoever wants to see each step, as mailturn probe does, uses Client.
package discovery
