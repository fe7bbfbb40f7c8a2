package kernel

import (
	"errors"
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

// Errors of Path.Add. After each of them, the sockets carry the packets.
var (
	ErrFamily = errors.New("client and peer have addresses of different families")
	ErrFull   = errors.New("no free entry in the kernel")
	ErrShare  = errors.New("this account has as many entries in the kernel as are left for all others")
	ErrTaken  = errors.New("the kernel already has an entry for these addresses")
	ErrPlace  = errors.New("other addresses take the places of these in the kernel's index")
)

// Binding is a channel binding (RFC 8656 section 12) with the addresses that packets have on the wire. An address of this server
// is never a wildcard, and, behind a NAT, not the address that others see.
type Binding struct {
	Client, Server netip.AddrPort
	Number         stun.ChannelNumber
	Relay, Peer    netip.AddrPort
	// Local is true if Peer is a relayed address of the same server. Its packets do not leave the server, so Relay is then the
	// advertised address, as Peer is. The other client needs a binding for the opposite direction.
	Local bool

	ToClient Route
	ToPeer   Route // unused if Local

	Until              time.Time // expiry
	LimitTo, LimitFrom Limit     // of what goes to the peer, and of what comes from it

	Share *Share // of the account, or nil if no limit applies to it
}

// Share counts the entries that an account has in the kernel. It may have as many as are left for others: one account up to half of
// all entries, two a third each, and so on. An account can therefore not take away the share of another one. The zero value has none.
// A Share is used with one Path.
type Share struct {
	entries int // owned by the Path
}

// Route is how packets to an address leave.
type Route struct {
	Interface int // index
	MTU       int // bytes, including the IP header
}

// Limit is a rate above which packets of one direction are passed up. A zero rate means no limit. A burst is what may be relayed
// at once after a pause. Bits include IP and UDP headers.
type Limit struct {
	Bits, BitBurst       int64 // per second
	Packets, PacketBurst int64 // per second
}

// Counts are packets relayed in one direction by the kernel, and bytes of application data in them.
type Counts struct{ Packets, Bytes uint64 }

// Reason is why the program passed a packet of an entry up.
type Reason uint8

// Reasons, in the order of the program's.
const (
	Stale     Reason = iota // the process has not reported for a while
	Ended                   // the entry has ended or expired
	Interface               // over another interface than the one that leads to the sender, or not addressed to this host
	Unproven                // nothing has come from the receiver through the program yet
	Fragment
	Offloaded // several datagrams in one buffer
	Checksum  // absent, or not yet computed
	Length    // lengths contradict each other, or data is followed by more than padding
	Hops      // the time to live ends here
	MTU
	Limited
	Partner // the other client of this server has no entry
	Failed  // no memory
	NumReasons
)

// String returns a word for r, as used in metrics.
func (r Reason) String() string {
	return [NumReasons]string{"stale", "ended", "interface", "unproven", "fragment", "offloaded", "checksum", "length", "hops", "mtu",
		"limit", "partner", "failed"}[r]
}
