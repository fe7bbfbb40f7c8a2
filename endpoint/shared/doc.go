// Package shared lets several endpoints, and a web server, share one listening port for TLS. It tells connections apart by the server
// name, by ALPN, and otherwise by what the client says first.
//
//	accept ─▶ PROXY header ─▶ ClientHello ─┬─ not our name, or not TLS ─▶ fallback, undecrypted
//	                                       ├─ ALPN, or one candidate   ─▶ the endpoint, which performs the handshake
//	                                       └─ otherwise: handshake ─▶ first bytes, or silence ─▶ the endpoint
package shared
