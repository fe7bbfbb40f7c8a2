package control

import (
	"context"
	"fmt"
	"os/user"
	"strconv"
)

// Caller is the process at the other end of a connection, as the kernel knows it (SO_PEERCRED). It is recorded when the process
// connects: the process may have ended since, and its ID may belong to another one.
type Caller struct {
	UID, GID uint32
	PID      int32
	// Known is false on systems that do not tell. The other fields are zero then.
	Known bool
}

// String returns the caller for the log: the user's name, if there is one, with the IDs of user and process.
func (c Caller) String() string {
	if !c.Known {
		return "unknown"
	}
	uid := strconv.FormatUint(uint64(c.UID), 10)
	if u, err := user.LookupId(uid); err == nil {
		return fmt.Sprintf("%s (uid %s, pid %d)", u.Username, uid, c.PID)
	}
	return fmt.Sprintf("uid %s, pid %d", uid, c.PID)
}

type callerKey struct{}

// CallerOf returns who sent the request with that context, to a Server.
func CallerOf(ctx context.Context) Caller {
	caller, _ := ctx.Value(callerKey{}).(Caller)
	return caller
}
