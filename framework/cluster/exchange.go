package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Times of an Exchange.
const (
	// exchangeEvery is how often machines compare all that they know, in case Redis has lost something.
	exchangeEvery = 30 * time.Second
	// waitForChange is how long Redis waits with its answer if nothing changes, and readLimit how many changes it sends at a time.
	waitForChange = 2 * time.Second
	readLimit     = 1000
	// retryAfter is the time to the next attempt after Redis has not answered. After loggedFailures attempts, the log says so.
	retryAfter     = time.Second
	loggedFailures = 5
	// maxEvent is the size of an event in bytes. Events are ignored whose time differs from that of this machine by more than maxEventAge.
	maxEvent    = 4 << 10
	maxEventAge = 5 * time.Minute
)

// Shared is what a machine shares with the others of its cluster. Its functions are called by one goroutine.
type Shared struct {
	// Held returns all entries that the machine knows, those that it has received too, so that an empty Redis learns them again.
	Held func() []Entry
	// Apply takes entries from Redis. Each is in force unless the machine knows one of the same name with a greater Stamp.
	Apply func([]Entry)
	// Happened takes an event that another machine has published.
	Happened func(event string)
	// Names, if not nil, are the user names that the machine issues and learns.
	Names *Names
}

// An Exchange shares entries, events and names between the machines of a cluster. The methods of a nil Exchange do nothing. It is safe
// for concurrent use.
type Exchange struct {
	directory *Directory
	// waits is for the requests that Redis answers when something changes. Closing it is the only way to end one.
	waits  redis.UniversalClient
	shared Shared
	id     string // of this process
	sealer *sealer
	logger *slog.Logger
	// every is exchangeEvery, except in tests.
	every time.Duration

	cancel  context.CancelFunc
	running sync.WaitGroup

	// What follows is of the goroutine that follows.
	last    map[string]string // ID of what was read last, by the key of its stream
	backlog string            // ID of the last change when everything was exchanged last
	failed  int               // attempts in succession that have failed while the Directory was well
	foreign bool              // the log says that something was ignored
	skewed  bool              // the log says that the clock of another machine differs
	// oversize is set when the log says that an entry of this machine is not shared.
	oversize bool
	// latest are the stamps of the latest events, by the ID of the process that has told them.
	latest map[string]int64

	telling sync.Mutex // held while an event is told, because stamps have to ascend in the stream
	told    int64      // stamp of the last event. Guarded by telling.

	mu      sync.Mutex // guards what follows
	current time.Time  // when everything was exchanged last, zero after a failure
}

// NewExchange returns an Exchange for a process of directory, and nil if that is nil. id is different for each process.
func NewExchange(directory *Directory, id string, shared Shared, logger *slog.Logger) *Exchange {
	if directory == nil {
		return nil
	}
	x := &Exchange{
		directory: directory, waits: directory.settings.client(), shared: shared, id: id, sealer: newSealer(directory.settings.key()), logger: logger,
		every: exchangeEvery, last: make(map[string]string), latest: make(map[string]int64),
	}
	if shared.Names != nil {
		shared.Names.exchange = x
	}
	return x
}

// Start begins to exchange, without waiting for Redis. Call Stop in the end.
func (x *Exchange) Start() {
	if x == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	x.cancel = cancel
	x.running.Go(func() { x.follow(ctx) })
	if x.shared.Names != nil {
		x.running.Go(func() { x.shared.Names.run(ctx) })
	}
}

// Stop ends what Start has begun. Call it before Directory.Stop.
func (x *Exchange) Stop() {
	if x == nil || x.cancel == nil {
		return
	}
	x.cancel()
	x.waits.Close()
	x.running.Wait()
}

func (x *Exchange) key(name string) string {
	return sharedKey(x.directory.settings.Block.KeyPrefix.V, name)
}

// Publish publishes entries that the machine holds. After an error, they are published when Redis can be used again.
func (x *Exchange) Publish(ctx context.Context, entries ...Entry) error {
	if x == nil {
		return nil
	}
	_, err := x.put(ctx, "", entries)
	x.recoverFrom(err)
	return err
}

// Fetch returns the entries that Redis has, before Start, for a machine that must not serve without them. It takes at most 1.5 s.
func (x *Exchange) Fetch(ctx context.Context) (entries []Entry, err error) {
	if x == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	texts, err := x.directory.client.HGetAll(ctx, x.key("entries")).Result()
	if err != nil {
		return nil, err
	}
	for field, text := range texts {
		entries = x.append(entries, field, text)
	}
	return entries, nil
}

// recoverFrom has everything exchanged, which removes foreign keys, if that is why an operation failed.
func (x *Exchange) recoverFrom(err error) {
	if isForeign(err) {
		x.setCurrent(time.Time{})
	}
}

// Tell tells the other machines that are connected to Redis about an event.
func (x *Exchange) Tell(ctx context.Context, event string) error {
	if x == nil {
		return nil
	}
	if len(event) > maxEvent {
		return fmt.Errorf("the event has %d bytes, and may have %d", len(event), maxEvent)
	}
	x.telling.Lock()
	defer x.telling.Unlock()
	now := time.Now()
	if x.told > now.Add(maxEventAge).UnixMicro() { // the clock was ahead, and the others would ignore what follows
		x.told = 0
	}
	x.told = NextStamp(now, x.told)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := x.directory.client.XAdd(ctx, &redis.XAddArgs{
		Stream: x.key("changes"), MaxLen: MaxEntries, Approx: true,
		Values: []string{"from", x.id, "event", x.sealer.seal(fmt.Sprintf("%d %s", x.told, event), x.id)},
	}).Err()
	x.recoverFrom(err)
	return err
}

// put calls the script of that name. Of several entries that the machine holds, those that cannot be encoded are left out.
func (x *Exchange) put(ctx context.Context, all string, entries []Entry) ([]string, error) {
	args := []any{all, MaxEntries}
	for _, e := range entries {
		field, text, err := e.encode(x.sealer)
		if err == nil {
			args = append(args, field, text)
			continue
		}
		if all == "" {
			return nil, err
		}
		if !x.oversize {
			x.logger.Error("cluster: an entry is not shared; others are, and more such entries are left out without a message", "err", err)
		}
		x.oversize = true
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return put.Run(ctx, x.directory.client, []string{x.key("entries"), x.key("changes")}, args...).StringSlice()
}

// follow exchanges everything, and then what changes, until ctx is done.
func (x *Exchange) follow(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		if x.isCurrent() {
			err = x.read(ctx)
		} else {
			err = x.exchange(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if x.note(err); err != nil {
			x.setCurrent(time.Time{})
			if nodes, ok := x.waits.(*redis.ClusterClient); ok {
				nodes.ReloadState(ctx) // see Directory.round
			}
			if x.shared.Names != nil {
				x.shared.Names.setPublished("") // Redis may have lost some
			}
			if isForeign(err) {
				x.clean(ctx)
			}
			select {
			case <-ctx.Done():
			case <-time.After(retryAfter):
			}
		}
	}
}

func (x *Exchange) isCurrent() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return time.Since(x.current) < x.every
}

func (x *Exchange) setCurrent(at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.current = at
}

// note logs that Redis does not do what an Exchange needs, unless the Directory says the same: at once if Redis refuses it, and otherwise
// if it lasts.
func (x *Exchange) note(err error) {
	if err == nil {
		if x.directory.report(BansAndNames, nil) {
			x.logger.Info("cluster: bans and names are shared again")
		}
		x.failed = 0
		return
	}
	if status := x.directory.Status(); status.Err != nil || status.Answered.IsZero() {
		x.failed = 0
		return // the Directory logs it
	}
	x.failed++
	switch {
	case !Refused(err) && x.failed < loggedFailures:
	case !x.directory.report(BansAndNames, err):
	case Refused(err):
		x.logger.Error("cluster: Redis refuses what bans and names need; they are not shared", "err", err)
	default:
		x.logger.Error("cluster: Redis answers, but bans and names are not shared", "err", err)
	}
}

// clean removes the keys that the Exchange cannot use because somebody else has written to them.
func (x *Exchange) clean(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	x.directory.clean(limited, hashKey, x.key("entries"), x.key("issuers"))
	x.directory.clean(limited, streamKey, x.key("changes"))
	if names := x.shared.Names; names != nil {
		x.directory.clean(limited, streamKey, names.stream(names.Issuer))
	}
	x.directory.clean(limited, streamKey, slices.Collect(maps.Keys(x.last))...)
}

// ignore logs that something in Redis is ignored, the first time so that an operator sees it. Only the goroutine that follows calls it.
func (x *Exchange) ignore(what string, err error) {
	level := slog.LevelDebug
	if !x.foreign {
		level = slog.LevelWarn
	}
	x.foreign = true
	x.logger.Log(context.Background(), level, "cluster: ignoring what Redis has; more is ignored without a message", "what", what, "err", err,
		"fix", "if it is not made with the key of this cluster, check that all machines have the same cluster.key")
}

// ignoreTime logs, the first time, that an event with an ID in the stream is ignored because of its time. That says nothing about clocks
// if the event was told while this machine could not read.
func (x *Exchange) ignoreTime(id string, err clockError) {
	if x.skewed || !earlierID(x.backlog, id) {
		return
	}
	x.skewed = true
	x.logger.Warn("cluster: ignoring events from a machine whose clock differs; more are ignored without a message",
		"difference", time.Duration(err).Abs().Round(time.Second))
}

// Refused reports whether an error is an answer of Redis, which then does not do what it was asked for.
func Refused(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// exchange publishes everything that the machine holds, and takes everything that Redis has.
func (x *Exchange) exchange(ctx context.Context) error {
	held := x.shared.Held()
	texts, err := x.put(ctx, "all", held)
	if err == nil && len(texts)%2 == 0 {
		err = fmt.Errorf("the answer has %d values", len(texts))
	}
	if err != nil {
		return err
	}
	if foreignID(texts[0], time.Now()) {
		return errForeign
	}
	x.backlog = texts[0]
	// What has changed since the last read is still to be read, because texts have no events. An earlier ID is of a stream that Redis has lost.
	if key := x.key("changes"); x.last[key] == "" || earlierID(texts[0], x.last[key]) {
		x.last[key] = texts[0]
	}
	var entries []Entry
	unreadable := make(map[string]bool)
	for pair := range slices.Chunk(texts[1:], 2) {
		n := len(entries)
		entries = x.append(entries, pair[0], pair[1])
		unreadable[pair[0]] = len(entries) == n
	}
	if err := x.replace(ctx, slices.DeleteFunc(held, func(e Entry) bool { return !unreadable[x.sealer.field(e.Name)] })); err != nil {
		return err
	}
	x.shared.Apply(entries)
	if x.shared.Names != nil {
		if err := x.shared.Names.exchangeAll(ctx); err != nil {
			return err
		}
	}
	x.setCurrent(time.Now())
	return nil
}

// replace stores entries over those that nobody can read, whatever their stamps are.
func (x *Exchange) replace(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	fields := make([]string, len(entries))
	for i, e := range entries {
		fields[i] = x.sealer.field(e.Name)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := x.directory.client.HDel(limited, x.key("entries"), fields...).Err(); err != nil {
		return err
	}
	_, err := x.put(ctx, "", entries)
	return err
}

// append appends an entry. One that cannot be read is left out.
func (x *Exchange) append(entries []Entry, field, text string) []Entry {
	e, err := parseEntry(x.sealer, field, text)
	if err != nil {
		x.ignore("entry "+strconv.QuoteToASCII(field[:min(len(field), maxName)]), err)
		return entries
	}
	return append(entries, e)
}

// read waits for changes, for a limited time, and applies them.
func (x *Exchange) read(ctx context.Context) error {
	keys := slices.Sorted(maps.Keys(x.last))
	streams := slices.Clone(keys)
	for _, key := range keys {
		streams = append(streams, x.last[key])
	}
	limited, cancel := context.WithTimeout(ctx, waitForChange+timeout)
	defer cancel()
	changed, err := x.waits.XRead(limited, &redis.XReadArgs{Streams: streams, Block: waitForChange, Count: readLimit}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for _, stream := range changed {
		for _, message := range stream.Messages {
			if foreignID(message.ID, time.Now()) {
				return errForeign
			}
			x.last[stream.Stream] = message.ID
		}
		if stream.Stream == x.key("changes") {
			x.applyChanges(stream.Messages)
		} else if x.shared.Names != nil {
			x.shared.Names.learn(stream.Stream, stream.Messages)
		}
	}
	return nil
}

// clockError is by how much the time of an event precedes that of this machine.
type clockError time.Duration

func (e clockError) Error() string {
	return fmt.Sprintf("its time is %v before that of this machine", time.Duration(e))
}

// openEvent returns an event. It returns a clockError if the time of the event is too far from that of this machine, and another error
// if the event has been told before: whoever can write to Redis can repeat what the stream has.
func (x *Exchange) openEvent(from, sealed string, now time.Time) (event string, err error) {
	text, err := x.sealer.open(sealed, from)
	if err != nil {
		return "", err
	}
	head, event, _ := strings.Cut(text, " ")
	stamp, err := strconv.ParseInt(head, 10, 64)
	if err != nil || len(event) > maxEvent || len(from) > maxName {
		return "", errForeign
	}
	if age := now.Sub(time.UnixMicro(stamp)); age.Abs() > maxEventAge {
		return "", clockError(age)
	}
	maps.DeleteFunc(x.latest, func(_ string, stamp int64) bool { return now.Sub(time.UnixMicro(stamp)) > maxEventAge })
	switch latest, known := x.latest[from]; {
	case known && stamp <= latest:
		return "", errors.New("it is known already")
	case !known && len(x.latest) == maxRelays:
		return "", fmt.Errorf("more than %d machines tell events", maxRelays)
	}
	x.latest[from] = stamp
	return event, nil
}

// applyChanges applies what the stream of changes says, in its order.
func (x *Exchange) applyChanges(messages []redis.XMessage) {
	var entries []Entry
	for _, m := range messages {
		text := func(key string) string { s, _ := m.Values[key].(string); return s }
		if entry := text("entry"); entry != "" {
			entries = x.append(entries, text("field"), entry)
			continue
		}
		from := text("from")
		event, err := x.openEvent(from, text("event"), time.Now())
		difference, differs := errors.AsType[clockError](err)
		switch {
		case differs:
			x.ignoreTime(m.ID, difference)
		case err != nil:
			x.ignore("event", err)
		case event == issuerJoined:
			x.setCurrent(time.Time{}) // to find its stream
		case from != x.id:
			x.shared.Apply(entries)
			entries = nil
			x.shared.Happened(event)
		}
	}
	if len(entries) > 0 {
		x.shared.Apply(entries)
	}
}
