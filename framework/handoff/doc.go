// Package handoff passes sockets and data from a process to its successor: another process that serves in its place, without a moment
// in which nobody listens.
//
//	old process                                  successor
//	 starts it ────────────────────────────────▶ reads the configuration
//	 Send the listening sockets ───────────────▶ starts around them
//	          ◀──────────────────────────── Send ready
//	 stops, Send what it knows ────────────────▶ takes it
//	          ◀──────────────────────────── Send done
//	 Send go ──────────────────────────────────▶ serves
//	 ends
//
// Until it sends go, the old process can go on as if nothing had been.
package handoff
