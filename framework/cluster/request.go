package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// requestLifetime is how long a request may wait in Redis for its machine, which looks after every interval.
const requestLifetime = 30 * time.Second

// maxRequest is the length of a request in Redis, in bytes.
const maxRequest = 4 << 10

// Upgrade is the Do of a Request that makes a machine start the program that is installed on it.
const Upgrade = "upgrade"

// A Request asks the machine of a relay to do something.
type Request struct {
	ID string `json:"id"` // random
	Do string `json:"do"` // Upgrade
	By string `json:"by"` // name of the machine that asks, for the log
	// Name and Incarnation are those of the relay. Another incarnation ignores the request.
	Name        string `json:"name"`
	Incarnation string `json:"incarnation"`
	// MAC authenticates the rest with a secret of the relay, so that it takes more than access to Redis to make a request.
	MAC string `json:"mac"`
}

// NewRequest returns a request to a relay, signed with a secret that it accepts.
func NewRequest(do, by string, to Relay, secret []byte) Request {
	r := Request{ID: rand.Text(), Do: do, By: by, Name: to.Name, Incarnation: to.Incarnation}
	r.MAC = hex.EncodeToString(r.mac(secret))
	return r
}

// Authentic reports whether the request was signed with the secret.
func (r Request) Authentic(secret []byte) bool {
	mac, err := hex.DecodeString(r.MAC)
	return err == nil && hmac.Equal(mac, r.mac(secret))
}

func (r Request) mac(secret []byte) []byte {
	r.MAC = ""
	text, _ := json.Marshal(r) // strings, which cannot fail
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("mailturn cluster: request\n"))
	mac.Write(text)
	return mac.Sum(nil)
}

// parseRequest parses a request, without its signature.
func parseRequest(text string) (r Request, err error) {
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, err
	}
	for name, value := range map[string]string{"id": r.ID, "do": r.Do, "name": r.Name, "incarnation": r.Incarnation, "mac": r.MAC} {
		if value == "" || len(value) > maxName {
			return r, fmt.Errorf("%s has %d bytes: want 1 to %d", name, len(value), maxName)
		}
	}
	if len(r.By) > maxName {
		return r, errors.New("by is too long")
	}
	return r, nil
}

// An Answer is what became of a Request that changed nothing. After one that succeeded, the relay has another incarnation.
type Answer struct {
	ID    string `json:"id"` // of the request
	Error string `json:"error"`
}

// Ask puts a request into Redis, where its machine finds it within seconds, and replaces one that waits.
func (d *Directory) Ask(ctx context.Context, r Request) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	keys := requestKeys(d.settings.Block.KeyPrefix.V)
	run := func() error {
		return ask.Run(ctx, d.client, keys, r.Name, text, requestLifetime.Milliseconds(), maxRelays).Err()
	}
	err = run()
	if isForeign(err) {
		d.clean(ctx, hashKey, keys...)
		err = run()
	}
	return err
}

// Serve has f called with each request to a relay of this process, on the goroutine that announces. f checks whether the request is
// authentic. Call it before Start.
func (d *Directory) Serve(f func(Request)) { d.serve = f }

// takeRequests takes the requests to the relays of this process out of Redis.
func (d *Directory) takeRequests(ctx context.Context, own []Relay) {
	if d.serve == nil {
		return
	}
	for _, relay := range own {
		text, err := take.Run(ctx, d.client, requestKeys(d.settings.Block.KeyPrefix.V), relay.Name, requestLifetime.Milliseconds(), maxRequest).Text()
		if isForeign(err) {
			d.clean(ctx, hashKey, requestKeys(d.settings.Block.KeyPrefix.V)...)
		}
		if err != nil { // redis.Nil if there is none. Other errors are reported when announcements fail.
			continue
		}
		r, err := parseRequest(text)
		if err != nil {
			d.logger.Warn("cluster: ignoring a request that cannot be read", "err", err)
			continue
		}
		if r.Name == relay.Name && r.Incarnation == relay.Incarnation {
			d.serve(r)
		}
	}
}

// Key of the requests.
//
//	PREFIX:1:{relays}:requests  hash   name of the relay → time in ms since the epoch on Redis's clock, a space, Request in JSON
func requestKeys(prefix string) []string { return []string{prefix + ":1:{relays}:requests"} }

// ask stores a request, and removes those that nobody has taken in time.
//
// KEYS: requestKeys. ARGV: name of the relay, request, lifetime in ms, the limit of requests.
var ask = newScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
	local at = tonumber(string.match(redis.call('HGET', KEYS[1], name), '^(%d+) '))
	if not at or math.abs(now - at) > tonumber(ARGV[3]) then
		redis.call('HDEL', KEYS[1], name)
	end
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
	return redis.error_reply('ERR there are ' .. ARGV[4] .. ' requests already')
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d ', now) .. ARGV[2])
return 0
`)

// take returns a request and removes it. It returns none that is too old or too long.
//
// KEYS: requestKeys. ARGV: name of the relay, lifetime in ms, the limit of bytes.
var take = newScript(`
local length = redis.call('HSTRLEN', KEYS[1], ARGV[1])
if length == 0 then return false end
local text = length <= tonumber(ARGV[3]) and redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
local at, request = string.match(text or '', '^(%d+) (.*)$')
local time = redis.call('TIME')
if not at or math.abs(time[1] * 1000 + math.floor(time[2] / 1000) - at) > tonumber(ARGV[2]) then return false end
return request
`)
