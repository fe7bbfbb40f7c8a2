// Package event describes what happens to the allocations of a TURN server, and why it drops packets and refuses requests.
package event
