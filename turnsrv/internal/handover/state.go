// Package handover is the state of a TURN server as plain values, and the encoding in which one process passes it to the next.
package handover

import (
	"net/netip"
	"time"
)

// State is everything that the allocations of a server consist of. Times that the server compares with its clock are durations
// relative to the moment At: only expiries that somebody else has chosen are absolute. A descriptor is an index into the list that
// accompanies the state.
type State struct {
	// At is when the state was taken, and Clock the time since the beginning of the clock that rates use.
	At    time.Time
	Clock time.Duration
	// NonceKey authenticates nonces, and NonceClock is the time on their clock.
	NonceKey   []byte
	NonceClock time.Time
	// Paused is set while the server refuses new allocations.
	Paused bool
	// Throttles are the buckets of what all allocations relay together, by direction.
	Throttles [2]int64
	// Counters are the counters of the server by name. A successor ignores names that it does not know.
	Counters     []Counter
	Accounts     []Account
	Links        []Link
	Reservations []Reservation
}

// Counter is a counter with its name, such as ended/expired.
type Counter struct {
	Name  string
	Value uint64
}

// Account is the state of what a quota per user limits.
type Account struct {
	Packets [2]int64 // buckets of the packet rates, by direction
}

// Link is a UDP socket, its DTLS associations, or the connections of a listener, with the allocations of its clients.
type Link struct {
	// Cookie identifies a UDP socket in all processes (SO_COOKIE, socket(7)). It is zero for connections.
	Cookie uint64
	// Listener is the address of the listener of connections.
	Listener    netip.AddrPort
	Streams     []Stream
	Allocations []Allocation
	// DTLS is set if the clients use DTLS on the socket, each with one of Associations. Versions before 2 have none.
	DTLS         bool
	Associations []Association
}

// Association is a DTLS association of a client after the handshake. There is one epoch.
type Association struct {
	Client, Server    netip.AddrPort
	Suite             int // as in RFC 5246 section 7.4.1.2
	WriteKey, WriteIV []byte
	ReadKey, ReadIV   []byte
	Next              uint64 // sequence number of the next record to the client
	Received, Window  uint64 // one more than the highest number from the client, and which ones before it have been received
	Flight            []byte // the last datagram of the handshake, if the client may still ask for it
}

// Stream is a TCP connection of a client.
type Stream struct {
	Descriptor     int
	Client, Server netip.AddrPort
	ServerName     string
	// Begun is set if a message has arrived, of which Partial is the part of the next one. Output waits to be sent.
	Begun           bool
	Partial, Output []byte
}

// Allocation is an allocation with its permissions and channels.
type Allocation struct {
	Stream         int // index in Link.Streams or Link.Associations, or -1 over UDP
	Client, Server netip.AddrPort

	Username, Realm string
	Subject         Subject
	Key             []byte
	Expires         time.Time     // of the credential; zero means never
	Withdrawn       time.Duration // when the credential was withdrawn, if WasWithdrawn
	WasWithdrawn    bool

	Made     [12]byte // transaction ID
	Response []byte   // unused; it was the response to that transaction
	Since    time.Time
	Heard    time.Duration // when the client last sent something

	Account  int // index in State.Accounts
	Requests int64
	Rates    [2]Rates
	Silent   Spending
	Relaying bool          // it has relayed something lately
	Relayed  uint64        // packets, when it was last checked whether the allocation is idle
	Active   time.Duration // when it was last not idle, on the clock of rates

	Addresses   []Address
	Permissions []Permission
	Channels    []Channel
}

// Subject is the holder of a credential.
type Subject struct {
	Name, Realm string
	Anonymous   bool
}

// Rates are the buckets of an allocation in one direction.
type Rates struct{ Bits, Packets, Share int64 }

// Spending is what was sent to peers that have not answered.
type Spending struct {
	Since time.Duration
	Bytes int
}

// Address is a relayed transport address.
type Address struct {
	Descriptor   int
	Relayed      netip.AddrPort // as advertised
	Expires      time.Duration
	DontFragment bool   // the present option of the socket
	Reserved     []byte // the token of the next port, or empty

	ToPeer, ToClient Traffic
	Dropped          []Counter
}

// Traffic is what was relayed in one direction.
type Traffic struct{ Packets, Bytes uint64 }

// Permission is a permission for a peer.
type Permission struct {
	Peer    netip.Addr
	Expires time.Duration
	Heard   bool // the peer has sent something
	Silent  Spending
}

// Channel is a channel binding.
type Channel struct {
	Number  int
	Peer    netip.AddrPort
	Expires time.Duration
}

// Reservation is a port that is reserved for the holder of a token.
type Reservation struct {
	Token      []byte
	Descriptor int
	Relayed    netip.AddrPort
	Left       time.Duration
	Looped     bool
}
