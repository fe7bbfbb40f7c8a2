package cluster

// Keys of the announcements. Both have one hash tag, so that a Redis Cluster keeps them in one slot, as a script requires.
//
//	PREFIX:1:{relays}:info  hash         name of the relay → announcement in JSON, see Relay
//	PREFIX:1:{relays}:seen  sorted set   name of the relay, by the time of its last announcement: ms since the epoch, on Redis's clock
func relayKeys(prefix string) []string {
	return []string{prefix + ":1:{relays}:info", prefix + ":1:{relays}:seen"}
}

// announce stores announcements, removes the relays that have made none for a while, and returns the announcements that it has replaced,
// an empty string where there was none, and then those of all relays, each followed by the milliseconds since it was made. It also removes
// announcements whose time is unknown, because Redis has evicted one of the keys, or somebody else has written them.
//
// KEYS: relayKeys. ARGV: lifetime in ms, the limit of relays, that of the bytes of an announcement, and for each relay its name and
// its announcement.
var announce = newScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, range in ipairs({{'-inf', now - ARGV[1]}, {now + ARGV[1], '+inf'}}) do -- the second one after the clock was set back
	for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], range[1], range[2])) do
		redis.call('HDEL', KEYS[1], name)
		redis.call('ZREM', KEYS[2], name)
	end
end
local stored = redis.call('HLEN', KEYS[1])
if stored > redis.call('ZCARD', KEYS[2]) then
	for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
		if not redis.call('ZSCORE', KEYS[2], name) then
			redis.call('HDEL', KEYS[1], name)
		end
	end
end
local function get(name)
	if redis.call('HSTRLEN', KEYS[1], name) > tonumber(ARGV[3]) then return '' end
	return redis.call('HGET', KEYS[1], name) or ''
end
local result = {}
for i = 4, #ARGV, 2 do
	table.insert(result, get(ARGV[i]))
	if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then
		return redis.error_reply('ERR there are ' .. ARGV[2] .. ' relays already')
	end
	redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
	redis.call('ZADD', KEYS[2], now, ARGV[i])
end
local seen = redis.call('ZRANGE', KEYS[2], 0, ARGV[2] - 1, 'WITHSCORES')
for i = 1, #seen, 2 do
	table.insert(result, get(seen[i]))
	table.insert(result, string.format('%d', now - seen[i + 1]))
end
return result
`)

// leave removes the announcement of a relay, unless another incarnation has replaced it.
//
// KEYS: relayKeys. ARGV: the relay's name and incarnation.
var leave = newScript(`
local text = redis.call('HGET', KEYS[1], ARGV[1])
local read, relay = pcall(cjson.decode, text or '')
if read and type(relay) == 'table' and relay.incarnation == ARGV[2] then
	redis.call('HDEL', KEYS[1], ARGV[1])
	redis.call('ZREM', KEYS[2], ARGV[1])
end
return 0
`)
