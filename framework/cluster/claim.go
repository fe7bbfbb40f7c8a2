package cluster

import (
	"context"
	"time"
)

// claimLifetime is how long a claim keeps others from doing the same, if the machine that made it does nothing.
const claimLifetime = time.Hour

// Claim reports whether this machine is the first one to claim something, so that only one of all machines does it.
func (x *Exchange) Claim(ctx context.Context, what string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	first, err := claim.Run(ctx, x.directory.client, []string{x.key("claims")}, what, claimLifetime.Milliseconds()).Bool()
	if isForeign(err) {
		x.directory.clean(ctx, hashKey, x.key("claims"))
	}
	return first, err
}

// claim returns 1 to the first caller of those that claim the same.
//
// KEYS: claims. ARGV: what is claimed, for how many ms.
var claim = newScript(`
if redis.call('HSETNX', KEYS[1], ARGV[1], '') == 0 then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`)
