package cluster

import "github.com/redis/go-redis/v9"

// Keys of the announcements. Both have one hash tag, so that a Redis Cluster keeps them in one slot, as a script requires.
//
//	PREFIX:1:{relays}:info  hash         name of the relay → announcement in JSON, see Relay
//	PREFIX:1:{relays}:seen  sorted set   name of the relay, by the time of its last announcement: ms since the epoch, on Redis's clock
func relayKeys(prefix string) []string {
	return []string{prefix + ":1:{relays}:info", prefix + ":1:{relays}:seen"}
}

// announce stores announcements, removes the relays that have made none for a while, and returns the announcements of the others,
// preceded by those that it has replaced, an empty string where there was none. It also removes announcements whose time is unknown,
// because Redis has evicted one of the keys, or somebody else has written them.
//
// KEYS: relayKeys. ARGV: lifetime in ms, the limit of relays, and for each relay its name and its announcement.
var announce = redis.NewScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local dead = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[1])
for _, name in ipairs(dead) do
	redis.call('HDEL', KEYS[1], name)
	redis.call('ZREM', KEYS[2], name)
end
if redis.call('HLEN', KEYS[1]) > redis.call('ZCARD', KEYS[2]) then
	for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
		if not redis.call('ZSCORE', KEYS[2], name) then
			redis.call('HDEL', KEYS[1], name)
		end
	end
end
local result = {}
for i = 3, #ARGV, 2 do
	local replaced = redis.call('HGET', KEYS[1], ARGV[i])
	table.insert(result, replaced or '')
	if not replaced and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then
		return redis.error_reply('ERR there are ' .. ARGV[2] .. ' relays already')
	end
	redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
	redis.call('ZADD', KEYS[2], now, ARGV[i])
end
for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
	table.insert(result, text)
end
return result
`)

// leave removes the announcement of a relay, unless another incarnation has replaced it.
//
// KEYS: relayKeys. ARGV: the relay's name and incarnation.
var leave = redis.NewScript(`
local text = redis.call('HGET', KEYS[1], ARGV[1])
if text and cjson.decode(text).incarnation == ARGV[2] then
	redis.call('HDEL', KEYS[1], ARGV[1])
	redis.call('ZREM', KEYS[2], ARGV[1])
end
return 0
`)
