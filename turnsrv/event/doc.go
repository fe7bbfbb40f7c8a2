// Package event says what happens to the allocations of a TURN server, and why packets and requests went nowhere.
package event
