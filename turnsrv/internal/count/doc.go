// Package count holds the live counters of a TURN server, which links and sessions add to.
package count
