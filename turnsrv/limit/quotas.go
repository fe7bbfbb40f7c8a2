package limit

// Quotas bound what clients may have. Zero is no limit, unless a field says otherwise.
type Quotas struct {
	// MaxAllocations bounds the allocations of the server, beyond it a request draws 486.
	MaxAllocations int
	// MaxAllocationsPerUser bounds those of one credential.Subject. One more takes the place of the one that has been
	// idle longest, if that has relayed nothing for a minute, and else draws 486.
	//
	// An anonymous subject may be several people: the bound is then that of each source address (IPv6: /64) with its
	// credential, and all of them together have ten times as many.
	MaxAllocationsPerUser int
	// MaxAllocationsPerSource bounds those of one IPv4 address or IPv6 /64, behind which there may be many users.
	MaxAllocationsPerSource int

	// MaxBPS bounds what one allocation relays in each direction, in bits a second with the headers of IP and UDP. Packets
	// beyond it are dropped. A second's worth may come at once.
	MaxBPS int64
	// MaxTotalBPS bounds what all allocations relay together, in the same way. An allocation that takes no more than an equal
	// part of it is not slowed down by others that take more.
	MaxTotalBPS int64
	// MaxPPS bounds the packets a second that one allocation relays in each direction, and MaxPPSPerUser those of all
	// allocations of one user (or of one address with an anonymous credential). A second's worth may come at once.
	MaxPPS, MaxPPSPerUser int64

	// MaxPermissions and MaxChannels bound the permissions and channels of one allocation, beyond which a request draws 508. Zero
	// is DefaultMaxPermissions and DefaultMaxChannels.
	MaxPermissions, MaxChannels int
}

// Unlimited reports whether there is no limit to what is relayed.
func (q *Quotas) Unlimited() bool {
	return q.MaxBPS == 0 && q.MaxTotalBPS == 0 && q.MaxPPS == 0 && q.MaxPPSPerUser == 0
}
