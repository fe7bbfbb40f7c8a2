package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// issuerJoined is the event that there is a new stream of names.
	issuerJoined = "issuer joined"
	// publishNamesEvery is how often names are published that were issued since.
	publishNamesEvery = 500 * time.Millisecond
	// namesPerMessage is how many names there are in one message of a stream.
	namesPerMessage = 500
	maxNames        = 1 << 20 // bytes of a message, in which a byte of a name may take six
	// maxIssuers is how many issuers have names of their own.
	maxIssuers = 64
)

// A Name is a user name that was issued to an account, or to several if Account is empty.
type Name struct{ Username, Account string }

// Names publishes the user names that a machine issues, so that the relays of all machines know whose they are, and learns those of the
// others. Its functions may be called by several goroutines.
type Names struct {
	// Issuer identifies the issuer, also after a restart. It is empty for a machine that issues none.
	Issuer string
	// Lifetime is how long a credential is valid at most.
	Lifetime time.Duration
	// Zeros is the number of zeros that the issuer had before, -1 if none. SetZeros is called when it gets one.
	Zeros    int
	SetZeros func(int)
	// Issued returns the names that were issued since the last call, and false if there were too many.
	Issued func() ([]Name, bool)
	// All returns all names that the machine has issued.
	All func() []Name
	// Learn takes names that were issued elsewhere, or by this machine before, if own is set.
	Learn func(names []Name, own bool)

	exchange *Exchange
	crowded  bool // the log says that there are too many issuers
	// published is the ID of the last message of this issuer, empty if its names are not in Redis. Guarded by exchange.mu.
	published string
}

func (n *Names) stream(issuer string) string { return n.exchange.key("names:" + issuer) }

func (n *Names) lastPublished() string {
	n.exchange.mu.Lock()
	defer n.exchange.mu.Unlock()
	return n.published
}

func (n *Names) setPublished(id string) {
	n.exchange.mu.Lock()
	defer n.exchange.mu.Unlock()
	n.published = id
}

// run publishes names until ctx is done, and those that are left then.
func (n *Names) run(ctx context.Context) {
	if n.Issuer == "" {
		return
	}
	ticker := time.NewTicker(publishNamesEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		n.publish()
	}
}

// publish publishes the names that were issued since the last call. After a failure, exchangeAll publishes all. Until it has, names
// stay where they are: it may have asked for all before they were issued.
func (n *Names) publish() {
	if n.lastPublished() == "" {
		return
	}
	names, complete := n.Issued()
	if complete && len(names) == 0 {
		return
	}
	id, err := "", error(nil)
	if complete {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		id, err = n.add(ctx, names, false)
	}
	if !complete || err != nil {
		n.exchange.setCurrent(time.Time{})
		id = ""
	}
	n.setPublished(id)
}

// add appends names to the stream of this issuer, or replaces it, and returns the ID of the last message. It is one round trip.
func (n *Names) add(ctx context.Context, names []Name, replace bool) (id string, err error) {
	key := n.stream(n.Issuer)
	pipeline := n.exchange.directory.client.Pipeline()
	if replace {
		pipeline.Del(ctx, key)
	}
	// A message without names shows that the stream is complete.
	chunks := slices.Collect(slices.Chunk(names, namesPerMessage))
	if len(chunks) == 0 {
		chunks = [][]Name{nil}
	}
	var last *redis.StringCmd
	for _, chunk := range chunks {
		text, err := encodeNames(chunk)
		if err != nil {
			return "", err
		}
		last = pipeline.XAdd(ctx, &redis.XAddArgs{Stream: key, NoMkStream: !replace, Values: []string{"names", n.exchange.sealer.seal(text, key)}})
	}
	pipeline.XTrimMinIDApprox(ctx, key, fmt.Sprint(time.Now().Add(-n.Lifetime-time.Hour).UnixMilli()), 0)
	pipeline.PExpire(ctx, key, n.Lifetime+time.Hour)
	if _, err := pipeline.Exec(ctx); err != nil { // redis.Nil too: the stream has been lost
		return "", err
	}
	return last.Val(), nil
}

// exchangeAll finds the issuers, takes a number of zeros, and publishes the names of this machine if Redis lacks some.
func (n *Names) exchangeAll(ctx context.Context) error {
	x := n.exchange
	ctx, cancel := context.WithTimeout(ctx, 2*timeout)
	defer cancel()
	answer, err := lease.Run(ctx, x.directory.client, []string{x.key("issuers")}, n.Issuer, n.Zeros, (n.Lifetime + 24*time.Hour).Milliseconds(),
		maxIssuers, maxName).Slice()
	if err != nil {
		return err
	}
	if len(answer) < 2 {
		return fmt.Errorf("the answer has %d values", len(answer))
	}
	zeros, ok := answer[0].(int64)
	if !ok {
		return fmt.Errorf("the answer begins with %v", answer[0])
	}
	streams := map[string]bool{x.key("changes"): true}
	for _, value := range answer[2:] {
		if issuer, ok := value.(string); ok {
			streams[n.stream(issuer)] = true
		}
	}
	for key := range streams {
		if x.last[key] == "" {
			x.last[key] = "0"
		}
	}
	for key := range x.last {
		if !streams[key] {
			delete(x.last, key)
		}
	}
	if n.Issuer == "" {
		return nil
	}
	if zeros < 0 {
		if !n.crowded {
			x.logger.Error("cluster: too many issuers; relays do not know the accounts of this one", "limit", maxIssuers)
		}
		n.crowded = true
		return nil
	}
	n.Zeros = int(zeros)
	n.SetZeros(n.Zeros)
	if err := n.publishAll(ctx); err != nil || answer[1] != int64(1) {
		return err
	}
	return x.Tell(ctx, issuerJoined)
}

// publishAll publishes all names of this machine, unless Redis has them. The first time, it learns what the machine has issued before.
func (n *Names) publishAll(ctx context.Context) error {
	key, published := n.stream(n.Issuer), n.lastPublished()
	if published != "" {
		last, err := n.exchange.directory.client.XRevRangeN(ctx, key, "+", "-", 1).Result()
		if err != nil || len(last) == 1 && last[0].ID == published {
			return err
		}
	} else {
		before, err := n.exchange.directory.client.XRange(ctx, key, "-", "+").Result()
		if err != nil {
			return err
		}
		n.learn(key, before)
	}
	_, _ = n.Issued() // which All contains
	id, err := n.add(ctx, n.All(), true)
	if err != nil {
		n.setPublished("")
		return err
	}
	n.setPublished(id)
	return nil
}

// learn takes the names in messages of a stream.
func (n *Names) learn(key string, messages []redis.XMessage) {
	for _, m := range messages {
		sealed, _ := m.Values["names"].(string)
		text, err := n.exchange.sealer.open(sealed, key)
		var names []Name
		if err == nil {
			names, err = parseNames(text)
		}
		if err != nil {
			n.exchange.ignore("names", err)
			continue
		}
		n.Learn(names, key == n.stream(n.Issuer))
	}
}

// encodeNames returns names as parseNames reads them: a JSON array in which each user name precedes its account.
func encodeNames(names []Name) (string, error) {
	flat := make([]string, 0, 2*len(names))
	for _, name := range names {
		flat = append(flat, name.Username, name.Account)
	}
	text, err := json.Marshal(flat)
	return string(text), err
}

func parseNames(text string) (names []Name, err error) {
	if len(text) > maxNames {
		return nil, fmt.Errorf("they have %d bytes, and may have %d", len(text), maxNames)
	}
	var flat []string
	if err := json.Unmarshal([]byte(text), &flat); err != nil {
		return nil, err
	}
	for pair := range slices.Chunk(flat, 2) {
		if len(pair) < 2 {
			return nil, errors.New("a user name has no account")
		}
		names = append(names, Name{pair[0], pair[1]})
	}
	return names, nil
}
