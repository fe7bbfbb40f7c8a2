package cluster

// Keys of what all machines know. They have one hash tag, so that a Redis Cluster keeps them in one slot.
//
//	PREFIX:1:{shared}:entries   hash     entries: STAMP UNTIL CONTENT by a name, see Entry.encode
//	PREFIX:1:{shared}:changes   stream   entries that have changed, and events
//	PREFIX:1:{shared}:issuers   hash     number of zeros → UNTIL ISSUER, see lease
//	PREFIX:1:{shared}:claims    hash     what a machine does for all: see claim
//	PREFIX:1:{shared}:names:ID  stream   user names that the issuer ID has issued, with their accounts
func sharedKey(prefix, name string) string { return prefix + ":1:{shared}:" + name }

// put stores entries that replace those of the same names, and publishes each. If it is asked for all, it first removes those that have
// ended or cannot be read, so that they leave room, and returns the ID of the last change, followed by the field and the value of every
// entry.
//
// KEYS: entries, changes. ARGV: "all" or "", the limit of entries, and for each entry its field and its value.
var put = newScript(`
local function head(text)
	local stamp, untilMS = string.match(text, '^(%d+) (%d+) ')
	return tonumber(stamp) or -1, tonumber(untilMS) or -1
end
if ARGV[1] == 'all' then
	local time = redis.call('TIME')
	local now = time[1] * 1000 + math.floor(time[2] / 1000)
	local stored = redis.call('HGETALL', KEYS[1])
	for i = 1, #stored, 2 do
		local _, untilMS = head(stored[i + 1])
		if untilMS < now then redis.call('HDEL', KEYS[1], stored[i]) end
	end
end
for i = 3, #ARGV, 2 do
	local old = redis.call('HGET', KEYS[1], ARGV[i])
	if not old or head(ARGV[i + 1]) > head(old) then
		if not old and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then
			return redis.error_reply('ERR there are ' .. ARGV[2] .. ' entries already')
		end
		redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
		redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'field', ARGV[i], 'entry', ARGV[i + 1])
	end
end
if ARGV[1] ~= 'all' then return {} end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local result = {last[1] and last[1][1] or '0-0'}
for _, text in ipairs(redis.call('HGETALL', KEYS[1])) do table.insert(result, text) end
return result
`)

// lease gives an issuer a number of zeros that no other issuer has, until a time, and returns it, -1 if there is none left, and 1 if it
// did not have it before, followed by the IDs of all other issuers. An empty ID takes none. What cannot be read holds none.
//
// KEYS: issuers. ARGV: ID of the issuer, the number that it had, for how many ms it needs it, how many numbers there are, the
// limit of the bytes of an ID.
var lease = newScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function holder(zeros)
	local text = redis.call('HGET', KEYS[1], zeros)
	local untilMS, id = string.match(text or '', '^(%d+) (.*)$')
	if not id or #id > tonumber(ARGV[5]) or tonumber(untilMS) < now then return nil end
	return id
end
local own, free, result = -1, -1, {}
for zeros = ARGV[4] - 1, 0, -1 do
	local id = holder(zeros)
	if not id then
		free = zeros
	elseif id == ARGV[1] then
		own = zeros
	else
		table.insert(result, id)
	end
end
local taken = own < 0 and 1 or 0
if ARGV[1] ~= '' then
	if own < 0 and tonumber(ARGV[2]) >= 0 and not holder(ARGV[2]) then own = tonumber(ARGV[2]) end
	if own < 0 then own = free end
	if own >= 0 then redis.call('HSET', KEYS[1], own, string.format('%d %s', now + ARGV[3], ARGV[1])) end
end
table.insert(result, 1, own)
table.insert(result, 2, taken)
return result
`)
