package cluster

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Types of keys, as the script clean knows them.
const (
	hashKey      = "hash"
	sortedSetKey = "sorted set"
	streamKey    = "stream"
)

// isForeign reports whether Redis refuses an operation because somebody else has written to its keys.
func isForeign(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "WRONGTYPE") || strings.Contains(err.Error(), "exhausted the last possible ID"))
}

// clean removes keys of a type that an operation could not use because somebody else has written to them, so that the next attempt
// succeeds. The first time, it logs that.
func (d *Directory) clean(ctx context.Context, kind string, keys ...string) {
	for _, key := range keys {
		removed, err := clean.Run(ctx, d.client, []string{key}, kind).Bool()
		if err == nil && removed && !d.cleaned.Swap(true) {
			d.logger.Warn("cluster: removed a key from Redis that something other than mailturn has written; others are removed without a message", "key", key)
		}
	}
}

// clean removes a key that is not of a type, or is a stream to which nothing can be added. It returns 1 if it has.
//
// KEYS: the key. ARGV: hashKey, sortedSetKey or streamKey.
var clean = redis.NewScript(`
local length = ({['hash'] = 'HLEN', ['sorted set'] = 'ZCARD', ['stream'] = 'XLEN'})[ARGV[1]]
local answer = redis.pcall(length, KEYS[1])
local foreign = type(answer) == 'table' and answer.err and string.find(answer.err, 'WRONGTYPE', 1, true)
if not foreign and ARGV[1] == 'stream' then
	local last = redis.pcall('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
	foreign = last and tonumber(string.match(last[1], '^%d+')) > (redis.call('TIME')[1] + 86400) * 1000
end
return foreign and redis.call('DEL', KEYS[1]) or 0
`)

// errForeign is why a value is ignored that does not have the form that mailturn writes.
var errForeign = errors.New("mailturn has not written it")
