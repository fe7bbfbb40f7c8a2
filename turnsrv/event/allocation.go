package event

import (
	"net/netip"
	"time"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Allocation describes a live allocation with one of its relayed transport addresses. A dual allocation has two descriptions.
type Allocation struct {
	Tuple    FiveTuple
	Username string
	// Subject is the holder of the credential, as counted by quotas.
	Subject credential.Subject
	Relayed netip.AddrPort
	Made    time.Time
	Expires time.Time // unless the client refreshes it

	Peers    int // with a permission, of both families
	Channels int // of both families

	ToPeer   Traffic
	ToClient Traffic
	// Dropped contains the number of dropped packets by reason. Reasons without any are absent.
	Dropped map[DropReason]uint32
}
