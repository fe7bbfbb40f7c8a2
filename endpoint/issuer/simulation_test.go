package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/cluster/redistest"
	"github.com/mailturn/mailturn/framework/config"
)

// simulated is a cluster of relays without their sockets, with a real Redis.
type simulated struct {
	directories []*cluster.Directory
	exchanges   []*cluster.Exchange
	limits      []*cluster.Limits // of the relays
	banned      chan time.Time    // when a relay learned of a ban
	redis       *redis.Client
	mail        Config // of a machine without a relay
	// issued are the user names that it publishes next.
	issued atomic.Pointer[[]cluster.Name]
}

// simulate starts so many relays.
func simulate(t *testing.T, relays int) *simulated {
	t.Helper()
	server := redistest.Start(t)
	s := &simulated{banned: make(chan time.Time, relays+1), redis: redis.NewClient(&redis.Options{Addr: server.Addr})}
	t.Cleanup(func() { s.redis.Close() })
	block := config.Defaults[config.Cluster]()
	block.Redis.V = []string{"redis://" + server.Addr}
	settings, diags := cluster.Decode(&block)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	add := func(announced []cluster.Relay, id string) *cluster.Directory {
		logger := slog.New(slog.DiscardHandler)
		d := cluster.New(settings, func() []cluster.Relay { return announced }, logger)
		var names *cluster.Names
		if len(announced) == 0 {
			names = &cluster.Names{Issuer: id, Lifetime: time.Hour, Zeros: -1, SetZeros: func(int) {}, Issued: func() ([]cluster.Name, bool) {
				if issued := s.issued.Swap(nil); issued != nil {
					return *issued, true
				}
				return nil, true
			}, All: func() []cluster.Name { return nil }, Learn: func([]cluster.Name, bool) {}}
		}
		x := cluster.NewExchange(d, id, cluster.Shared{
			Names:    names,
			Held:     func() []cluster.Entry { return nil },
			Happened: func(string) {},
			Apply: func(entries []cluster.Entry) {
				if len(entries) > 0 {
					s.banned <- time.Now()
				}
			},
		}, logger)
		d.Start()
		x.Start()
		l := cluster.NewLimits(d, id)
		l.Start()
		t.Cleanup(func() { l.Stop(); x.Stop(); d.Stop() })
		if len(announced) > 0 {
			s.limits = append(s.limits, l)
		}
		s.directories, s.exchanges = append(s.directories, d), append(s.exchanges, x)
		return d
	}
	for i := range relays {
		name := fmt.Sprintf("turn%d.example.org", i)
		add([]cluster.Relay{member(name, func(r *cluster.Relay) { r.Incarnation = name })}, name)
	}
	s.mail = linked(t, fmt.Sprintf("\n turn_server = \"file.example.org\"\n turn_secret = %q\n", secretB))
	s.mail.Join(add(nil, "mail"), nil)
	s.await(t, relays)
	return s
}

// await waits until the mail server knows so many relays, and returns how long it took.
func (s *simulated) await(t *testing.T, relays int) time.Duration {
	t.Helper()
	began := time.Now()
	for len(s.mail.Cluster.Relays()) != relays {
		if time.Since(began) > time.Minute {
			t.Fatalf("%d relays are known, want %d", len(s.mail.Cluster.Relays()), relays)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// issue issues a credential for each account, and returns the relays that they are told of those that are known now.
func (s *simulated) issue(accounts int) []string {
	told := make([]string, accounts)
	mail := s.mail
	mail.Join(fixed{relays: s.mail.Cluster.Relays()}, nil)
	var working sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		working.Go(func() {
			for i := w; i < accounts; i += workers {
				account := fmt.Sprintf("user%d@example.org", i)
				relay := mail.For(account)
				relay.IssueTo(account, time.Now())
				told[i] = relay.Server.V
			}
		})
	}
	working.Wait()
	return told
}

// allocate has users allocate on the relays, so many a second for some seconds, and returns how many requests Redis got for each
// allocation, and how many bytes it holds for each.
func (s *simulated) allocate(t *testing.T, seconds, rate int) (requests, bytes float64) {
	t.Helper()
	before, memory := s.info(t, "cmdstat_evalsha"), s.info(t, "used_memory")
	began, user, count := time.Now(), 0, seconds*rate
	for ; user < count; time.Sleep(time.Millisecond) { // by the clock: a pause of this goroutine costs no allocations
		for due := int(time.Since(began).Seconds() * float64(rate)); user < min(due, count); user++ {
			l := s.limits[user%len(s.limits)]
			name := fmt.Sprintf("user%d@example.org", user)
			if l.Addresses(name) < 10 {
				l.Hold(name, cluster.Holding{Addresses: 1})
			}
		}
	}
	offered, keys := time.Since(began), 0.0
	for deadline := time.Now().Add(time.Minute); keys < float64(user) && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		keys = float64(s.redis.DBSize(t.Context()).Val())
	}
	t.Logf("%d allocations in %v: %.0f a second; Redis knew the last after %v", user, offered.Round(time.Millisecond), float64(user)/offered.Seconds(),
		time.Since(began).Round(time.Millisecond))
	if keys < float64(user) {
		t.Fatalf("Redis knows %v of %d allocations", keys, user)
	}
	return (s.info(t, "cmdstat_evalsha") - before) / float64(user), (s.info(t, "used_memory") - memory) / float64(user)
}

// publish has the mail server publish so many user names, and returns how many bytes Redis has for each.
func (s *simulated) publish(t *testing.T, count int) float64 {
	t.Helper()
	const stream = "mailturn:1:{shared}:names:mail"
	size := func() float64 {
		n, err := s.redis.MemoryUsage(t.Context(), stream, 0).Result() // all of it, not an estimate from samples
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		return float64(n)
	}
	names := make([]cluster.Name, count)
	for i := range names {
		names[i] = cluster.Name{Username: strconv.Itoa(1_790_000_000 + i), Account: fmt.Sprintf("user%d@example.org", i)}
	}
	s.awaitMessages(t, stream, 1) // one without names, when it joined
	before := size()
	s.issued.Store(&names)
	s.awaitMessages(t, stream, 1+(count+499)/500)
	return (size() - before) / float64(count)
}

// awaitMessages waits until a stream has so many messages.
func (s *simulated) awaitMessages(t *testing.T, stream string, count int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		n, err := s.redis.XLen(t.Context(), stream).Result()
		if err != nil {
			t.Fatal(err)
		}
		if n >= int64(count) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has %d messages, want %d", stream, n, count)
		}
	}
}

// info returns a number of INFO.
func (s *simulated) info(t *testing.T, name string) float64 {
	t.Helper()
	text, err := s.redis.Info(context.Background(), "everything").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(text, "\n"+name+":")
	value, _, _ = strings.Cut(value, "\r")
	if fields, isTable := strings.CutPrefix(value, "calls="); isTable {
		value, _, _ = strings.Cut(fields, ",")
	}
	n, _ := strconv.ParseFloat(value, 64) // 0 for a command that was never used
	return n
}

// requests is how many requests Redis has got from the cluster.
func (s *simulated) requests(t *testing.T) (n float64) {
	t.Helper()
	for _, command := range []string{"evalsha", "eval", "xread"} {
		n += s.info(t, "cmdstat_"+command)
	}
	return n
}

// environment returns a number from the environment.
func environment(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestSimulation has many relays and accounts, by default few. It logs what docs/cluster.md says.
func TestSimulation(t *testing.T) {
	relays, accounts := environment("MAILTURN_SIMULATION_RELAYS", 8), environment("MAILTURN_SIMULATION_ACCOUNTS", 2000)
	s := simulate(t, relays)

	began, requests, cpu := time.Now(), s.requests(t), s.info(t, "used_cpu_user")+s.info(t, "used_cpu_sys")
	before := s.issue(accounts)
	took := time.Since(began)
	rate := (s.requests(t) - requests) / took.Seconds()
	t.Logf("%d credentials in %v: %.1f µs each; Redis got %.0f requests a second from %d machines meanwhile, and used %.1f %% of a processor", accounts,
		took.Round(time.Millisecond), took.Seconds()*1e6/float64(accounts), rate, relays+1, (s.info(t, "used_cpu_user")+s.info(t, "used_cpu_sys")-cpu)/took.Seconds()*100)
	// Each machine announces every two seconds, and asks for requests and changes about as often.
	if most := 3 * float64(relays+1); rate > most && took > 4*time.Second {
		t.Errorf("%.0f requests a second, want at most %.0f: none for a credential", rate, most)
	}
	count := make(map[string]int)
	largest := 0
	for _, relay := range before {
		count[relay]++
		largest = max(largest, count[relay])
	}
	mean := float64(accounts) / float64(relays)
	t.Logf("the largest share is %.3f of the mean, on %d relays", float64(largest)/mean, len(count))
	if limit := mean + 6*math.Sqrt(mean); float64(largest) > limit || len(count) != relays {
		t.Errorf("%d relays have accounts, one of them %d, want at most %.0f", len(count), largest, limit)
	}

	requestsEach, bytesEach := s.allocate(t, environment("MAILTURN_SIMULATION_SECONDS", 1), environment("MAILTURN_SIMULATION_RATE", 1000))
	t.Logf("Redis got %.2f requests for each allocation, those of the announcements among them, and has %.0f bytes for each", requestsEach, bytesEach)

	t.Logf("Redis has %.0f bytes for each user name", s.publish(t, min(accounts, 100_000)))

	const first = "turn0.example.org"
	for i, d := range s.directories {
		if fmt.Sprintf("turn%d.example.org", i) == first {
			s.limits[i].Stop()
			s.exchanges[i].Stop()
			d.Stop()
		}
	}
	gone := s.await(t, relays-1)
	moved, must := 0, count[first]
	for i, relay := range s.issue(accounts) {
		if relay != before[i] {
			moved++
		}
	}
	t.Logf("%d of %d accounts moved when a relay left, which had %d; it was gone after %v", moved, accounts, must, gone.Round(time.Millisecond))
	if moved != must {
		t.Errorf("%d accounts moved, want %d", moved, must)
	}

	for len(s.banned) > 0 {
		<-s.banned
	}
	banned := time.Now()
	entry := cluster.Entry{Name: "ban", Stamp: cluster.NextStamp(banned, 0), Until: banned.Add(time.Hour), Value: "alice@example.org"}
	if err := s.exchanges[relays].Publish(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	var latest time.Duration
	for range relays - 1 {
		select {
		case at := <-s.banned:
			latest = max(latest, at.Sub(banned))
		case <-time.After(time.Minute):
			t.Fatal("a relay did not learn of the ban")
		}
	}
	t.Logf("the last of the relays learned of a ban after %v", latest.Round(time.Millisecond))
	size, err := s.redis.MemoryUsage(t.Context(), "mailturn:1:{relays}:info").Result()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Redis has %d bytes for each relay, and uses %.0f KiB in total", int(size)/(relays-1), s.info(t, "used_memory")/1024)
}
