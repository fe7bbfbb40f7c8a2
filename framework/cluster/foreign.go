package cluster

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// maxAhead is by how much the ID of a message may be ahead of the clock.
const maxAhead = 24 * time.Hour

// Types of keys, as the script clean knows them.
const (
	hashKey      = "hash"
	sortedSetKey = "sorted set"
	streamKey    = "stream"
)

// isForeign reports whether Redis refuses an operation because somebody else has written to its keys.
func isForeign(err error) bool {
	return err != nil && (errors.Is(err, errForeign) || strings.Contains(err.Error(), "WRONGTYPE") ||
		strings.Contains(err.Error(), "exhausted the last possible ID"))
}

// foreignID reports whether the ID of a message in a stream is so late that somebody else has chosen it. Nothing might follow it.
func foreignID(id string, now time.Time) bool {
	ms, _, _ := strings.Cut(id, "-")
	at, err := strconv.ParseUint(ms, 10, 64)
	return err != nil || at > uint64(now.Add(maxAhead).UnixMilli())
}

// earlierID reports whether the ID of a message in a stream precedes another one. An ID is MS-SEQ, or MS alone, which is MS-0.
func earlierID(a, b string) bool {
	parse := func(id string) (ms, seq uint64) {
		first, second, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(first, 10, 64) // Redis writes no other IDs
		seq, _ = strconv.ParseUint(second, 10, 64)
		return ms, seq
	}
	aMS, aSeq := parse(a)
	bMS, bSeq := parse(b)
	return aMS < bMS || aMS == bMS && aSeq < bSeq
}

// clean removes keys of a type that an operation could not use because somebody else has written to them, so that the next attempt
// succeeds. The first time, it logs that.
func (d *Directory) clean(ctx context.Context, kind string, keys ...string) {
	for _, key := range keys {
		removed, err := clean.Run(ctx, d.client, []string{key}, kind, maxAhead.Milliseconds()).Bool()
		if err == nil && removed && !d.cleaned.Swap(true) {
			d.logger.Warn("cluster: removed a key from Redis that something other than mailturn has written; others are removed without a message", "key", key)
		}
	}
}

// clean removes a key that is not of a type, or is a stream whose last ID is foreign. It returns 1 if it has.
//
// KEYS: the key. ARGV: hashKey, sortedSetKey or streamKey; by how many ms an ID may be ahead of the clock.
var clean = newScript(`
local length = ({['hash'] = 'HLEN', ['sorted set'] = 'ZCARD', ['stream'] = 'XLEN'})[ARGV[1]]
local answer = redis.pcall(length, KEYS[1])
local foreign = type(answer) == 'table' and answer.err and string.find(answer.err, 'WRONGTYPE', 1, true)
if not foreign and ARGV[1] == 'stream' then
	local info = redis.pcall('XINFO', 'STREAM', KEYS[1]) -- has the last ID even if its message was deleted; an error if there is no stream
	for i = 1, #info, 2 do
		if info[i] == 'last-generated-id' then
			foreign = tonumber(string.match(info[i + 1], '^%d+')) > redis.call('TIME')[1] * 1000 + ARGV[2]
		end
	end
end
return foreign and redis.call('DEL', KEYS[1]) or 0
`)

// errForeign is why a value is ignored that does not have the form that mailturn writes.
var errForeign = errors.New("mailturn has not written it")
