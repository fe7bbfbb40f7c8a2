package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// callsSuffix follows the incarnation of a relay in the field that has its calls. Other fields have its relayed addresses.
const callsSuffix = " calls"

// account tells Redis what a user has on a relay, removes what relays have not confirmed for long, because they are dead, and returns what
// the user has on each relay: how many pairs of field and number there are in held, those pairs, and then those of bytes. A field is an
// incarnation, for its relayed addresses, or an incarnation and callsSuffix, for its calls.
//
// KEYS: held, day. ARGV: incarnation, relayed addresses, calls, bytes, for how many ms what is held is kept, and for how many bytes are.
var account = newScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function hold(field, n)
	if n == '0' then
		redis.call('HDEL', KEYS[1], field)
	else
		redis.call('HSET', KEYS[1], field, n .. ' ' .. string.format('%d', now))
		redis.call('PEXPIRE', KEYS[1], ARGV[5])
	end
end
hold(ARGV[1], ARGV[2])
hold(ARGV[1] .. '` + callsSuffix + `', ARGV[3])
if ARGV[4] ~= '0' then
	redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
	redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
local all, held = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
	local n, at = string.match(all[i + 1], '^(%d+) (%d+)$')
	if n and now - at < tonumber(ARGV[5]) then
		table.insert(held, all[i])
		table.insert(held, n)
	else
		redis.call('HDEL', KEYS[1], all[i])
	end
end
local result = {tostring(#held / 2)}
for _, list in ipairs({held, redis.call('HGETALL', KEYS[2])}) do
	for _, value in ipairs(list) do table.insert(result, value) end
end
return result
`)

// accountKeys returns the keys of a user, in a slot of its own. They do not disclose the name.
func (l *Limits) accountKeys(user, day string) []string {
	id := l.sealer.field("user " + user)
	if l.sealer == nil {
		sum := sha256.Sum256([]byte(user))
		id = hex.EncodeToString(sum[:16])
	}
	prefix := l.directory.settings.Block.KeyPrefix.V + ":1:{" + id + "}:"
	return []string{prefix + "held", prefix + "day:" + day}
}

// exchange does a sweep for some users, in one round trip. It returns an error if Redis does not answer, and puts off those users whom
// alone Redis refuses.
func (l *Limits) exchange(ctx context.Context, names []string) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	keys, args, told := make([][]string, len(names)), make([][]any, len(names)), make([]Holding, len(names))
	l.mu.Lock()
	for i, name := range names {
		u := l.user(name)
		keys[i], told[i] = l.accountKeys(name, u.day), u.Holding
		args[i] = []any{l.incarnation, u.Addresses, u.Calls, strconv.FormatUint(u.bytes, 10), keepHeld.Milliseconds(), keepDay.Milliseconds()}
		if u.Holding != (Holding{}) { // an error does not say that Redis has not stored it
			u.storedUntil = l.clock().Add(keepHeld)
		}
	}
	l.mu.Unlock()
	answers := make([]*redis.Cmd, len(names))
	pipeline := l.directory.client.Pipeline()
	for i := range names {
		answers[i] = account.EvalSha(limited, pipeline, keys[i], args[i]...)
	}
	_, err := pipeline.Exec(limited)
	if err != nil { // some servers may not know the script
		pipeline = l.directory.client.Pipeline()
		for i := range names {
			if redis.HasErrorPrefix(answers[i].Err(), "NOSCRIPT") {
				answers[i] = account.Eval(limited, pipeline, keys[i], args[i]...)
			}
		}
		_, _ = pipeline.Exec(limited) // each answer has its error
	}
	now := l.clock()
	for i, name := range names {
		values, err := answers[i].StringSlice()
		if err == nil {
			err = l.learn(name, told[i], keys[i][1], values, now)
		}
		if err != nil && !Refused(err) && !errors.Is(err, errForeign) {
			return err
		}
		if isForeign(err) {
			l.directory.clean(limited, hashKey, keys[i]...)
		}
		l.note(name, err)
	}
	return nil
}

// learn takes the answer of Redis about a user, after it was told what the user has here.
func (l *Limits) learn(name string, told Holding, dayKey string, values []string, now time.Time) error {
	if len(values) == 0 || len(values)%2 == 0 {
		return fmt.Errorf("the answer has %d values: %w", len(values), errForeign)
	}
	pairs, err := strconv.Atoi(values[0])
	if err != nil || pairs < 0 || pairs > len(values)/2 {
		return fmt.Errorf("the answer begins with %q: %w", values[0], errForeign)
	}
	elsewhere, bytes := make(map[string]Holding), make(map[string]uint64)
	for i := range len(values) / 2 {
		field, text := values[1+2*i], values[2+2*i]
		incarnation, isCalls := strings.CutSuffix(field, callsSuffix)
		n, err := strconv.ParseUint(text, 10, 53)
		if err != nil || incarnation == l.incarnation {
			continue
		}
		held := elsewhere[incarnation]
		switch {
		case i >= pairs:
			bytes[field] = n
			continue
		case isCalls:
			held.Calls = int(n)
		default:
			held.Addresses = int(n)
		}
		elsewhere[incarnation] = held
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.user(name)
	u.learnCalls(told.Calls, elsewhere)
	u.asked, u.elsewhere = now, elsewhere
	if told == (Holding{}) {
		u.storedUntil = time.Time{}
	}
	if strings.HasSuffix(dayKey, ":"+u.day) {
		u.bytesElsewhere = bytes
	}
	return nil
}

// learnCalls notes which calls on other relays were there before the latest one here, after Redis was told how many are here. Those that
// begin later do not concern this relay.
func (u *sharedUser) learnCalls(told int, elsewhere map[string]Holding) {
	if told > u.storedCalls {
		u.earlier = make(map[string]int)
		for incarnation, held := range elsewhere {
			if held.Calls > 0 {
				u.earlier[incarnation] = held.Calls
			}
		}
	}
	for incarnation, n := range u.earlier {
		if n = min(n, elsewhere[incarnation].Calls); n == 0 || told == 0 {
			delete(u.earlier, incarnation)
		} else {
			u.earlier[incarnation] = n
		}
	}
	u.storedCalls = told
}
