package limit

// Quotas limit what clients can use. Zero means no limit, unless a field says otherwise.
type Quotas struct {
	// MaxAllocations limits the allocations of the server. Further requests are refused with 486.
	MaxAllocations int
	// MaxAllocationsPerUser limits the allocations of one credential.Subject. A further allocation replaces the one that has been
	// idle longest, if that one has relayed nothing for a minute, or if its client has sent nothing for 10 seconds and is on another
	// host than the new one's. Otherwise the request is refused with 486, unless the client may have roamed: a user who has
	// allocations on other hosts may have as many more, and no more than twice the limit, for 15 seconds. Then the latest ones end
	// that are still too many, and there is no such grace for ten minutes.
	//
	// An anonymous subject may be several people. The limit then applies to each source address (IPv6: /64) with its credential,
	// and ten times the limit to all of them together.
	MaxAllocationsPerUser int
	// MaxAllocationsPerSource limits the allocations of one IPv4 address or IPv6 /64, which many users may share.
	MaxAllocationsPerSource int

	// MaxCallsPerUser limits the calls of one user, or of one source address with an anonymous credential: allocations whose clients
	// send anything but the checks of ICE, and have done so in the last 10 seconds. Since a call may move from one allocation to another,
	// a further one is relayed for 15 seconds; then, while the others go on, its packets are dropped, and requests for permissions and
	// channels are refused with 508. Unless a client fell silent in those 15 seconds, there is no such grace for the next ten minutes.
	MaxCallsPerUser int
	// MaxBytesPerUserPerDay limits the bytes of payload that all allocations of one user, or of one source address with an anonymous
	// credential, relay in a day of UTC, in both directions together. When a user has relayed more, allocations of the user that
	// relay end within a second or two, and further ones are refused with 486 until the day is over.
	MaxBytesPerUserPerDay int64

	// MaxBPS limits what one allocation relays in each direction, in bits per second including IP and UDP headers. Packets above
	// the limit are dropped. A burst may contain one second's worth.
	MaxBPS int64
	// MaxTotalBPS limits what all allocations together relay, in the same way. An allocation that uses no more than an equal share
	// is not slowed down by others that use more.
	MaxTotalBPS int64
	// MaxPPS limits the packets per second that one allocation relays in each direction. MaxPPSPerUser limits those of all
	// allocations of one user, or of one source address with an anonymous credential. A burst may contain one second's worth.
	MaxPPS, MaxPPSPerUser int64

	// MaxPermissions and MaxChannels limit the permissions and channels of one allocation. Further requests are refused with 508.
	// Zero means DefaultMaxPermissions and DefaultMaxChannels.
	MaxPermissions, MaxChannels int
}

// Unlimited reports whether the relayed traffic has no limit.
func (q *Quotas) Unlimited() bool {
	return q.MaxBPS == 0 && q.MaxTotalBPS == 0 && q.MaxPPS == 0 && q.MaxPPSPerUser == 0
}
