package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
	"github.com/mailturn/mailturn/framework/config"
)

// settingsFor returns the settings for Redis servers.
func settingsFor(t *testing.T, mode string, addrs ...string) Settings {
	t.Helper()
	block := config.Defaults[config.Cluster]()
	block.Mode.V = mode
	for _, addr := range addrs {
		block.Redis.V = append(block.Redis.V, "redis://"+addr)
	}
	if mode == modeSentinel {
		block.SentinelMaster = config.Value[string]{V: "m", Set: true}
	}
	s, diags := Decode(&block)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return s
}

// machine is a process of a cluster, with short times.
type machine struct {
	*Directory
	log *logged

	mu    sync.Mutex
	relay Relay
}

// logged keeps log lines.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// join starts a machine with a relay, or without one if name is empty.
func join(t *testing.T, settings Settings, name, incarnation string) *machine {
	t.Helper()
	m := newMachine(settings, name, incarnation)
	m.Start()
	t.Cleanup(m.Stop)
	return m
}

func newMachine(settings Settings, name, incarnation string) *machine {
	m := &machine{log: new(logged), relay: Relay{
		Name: name, Incarnation: incarnation, Server: name + ".example.org", UDP: []uint16{3478}, Secrets: []string{SecretID([]byte("s"))}, Weight: 1,
	}}
	m.Directory = New(settings, m.announced, slog.New(slog.NewTextHandler(m.log, nil)))
	m.interval, m.lifetime = 50*time.Millisecond, 500*time.Millisecond
	return m
}

func (m *machine) announced() []Relay {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.relay.Name == "" {
		return nil
	}
	return []Relay{m.relay}
}

// set changes what the machine announces.
func (m *machine) set(change func(*Relay)) {
	m.mu.Lock()
	change(&m.relay)
	m.mu.Unlock()
	m.Changed()
}

// names returns the relays that the machine knows.
func (m *machine) names() string {
	var names []string
	for _, r := range m.Relays() {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

// eventually waits until f returns want.
func eventually(t *testing.T, what string, f func() string, want string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if got = f(); got == want {
			return
		}
	}
	t.Fatalf("%s: %q, want %q", what, got, want)
}

func TestRelaysKnowEachOther(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two, mail := join(t, settings, "one", "1"), join(t, settings, "two", "2"), join(t, settings, "", "")
	for _, m := range []*machine{one, two, mail} {
		eventually(t, "relays", m.names, "one two")
	}
	if relays := one.Relays(); !relays[0].Own || relays[1].Own {
		t.Errorf("own relays: %v, %v", relays[0].Own, relays[1].Own)
	}
	two.set(func(r *Relay) { r.Refuses, r.Allocations = Draining, 7 })
	eventually(t, "state of two", func() string {
		relays := mail.Relays()
		return fmt.Sprint(relays[len(relays)-1].Refuses, relays[len(relays)-1].Allocations)
	}, "draining7")
	two.Stop()
	eventually(t, "relays after two has left", mail.names, "one")
}

func TestOtherPrefixIsOtherCluster(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one := join(t, settings, "one", "1")
	settings.Block.KeyPrefix.V = "other"
	two := join(t, settings, "two", "2")
	eventually(t, "relays", one.names, "one")
	eventually(t, "relays", two.names, "two")
}

// TestDeadRelayIsForgotten has a relay die without a word.
func TestDeadRelayIsForgotten(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two := join(t, settings, "one", "1"), join(t, settings, "two", "2")
	eventually(t, "relays", one.names, "one two")
	two.stop()
	<-two.stopped
	client := settings.client()
	defer client.Close()
	text, err := two.announced()[0].encode()
	if err != nil {
		t.Fatal(err)
	}
	var died time.Time // when it announced itself last, which this test does so that the time is known
	eventually(t, "relays", func() string {
		died = time.Now()
		if err := announce.Run(t.Context(), client, relayKeys("mailturn"), one.lifetime.Milliseconds(), maxRelays, maxAnnouncement, "two", text).Err(); err != nil {
			t.Fatal(err)
		}
		return one.names()
	}, "one two")
	eventually(t, "relays", one.names, "one")
	if took := time.Since(died); took < one.lifetime-one.interval {
		t.Errorf("forgotten after %v, before its lifetime of %v", took, one.lifetime)
	}
}

// TestOldIncarnationLeaves has a relay start again before its former process says that it leaves.
func TestOldIncarnationLeaves(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	before, mail := join(t, settings, "one", "1"), join(t, settings, "", "")
	eventually(t, "relays", mail.names, "one")
	before.stop()
	<-before.stopped
	after := join(t, settings, "one", "2")
	incarnation := func() string {
		relays := mail.Relays()
		if len(relays) != 1 {
			return ""
		}
		return relays[0].Incarnation
	}
	eventually(t, "incarnation", incarnation, "2")
	before.Directory.client = settings.client()
	before.Stop()
	if n := after.log.count("has the name of this one"); n != 0 {
		t.Errorf("a restart was reported as a conflict")
	}
	client := settings.client()
	defer client.Close()
	if n, err := client.HLen(t.Context(), relayKeys("mailturn")[0]).Result(); err != nil || n != 1 {
		t.Errorf("%d announcements, %v: the old incarnation removed that of the new one", n, err)
	}
}

func TestTwoRelaysOfOneName(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two := join(t, settings, "one", "1"), join(t, settings, "one", "2")
	eventually(t, "both report it once", func() string {
		return fmt.Sprint(one.log.count("has the name of this one"), two.log.count("has the name of this one"))
	}, "1 1")
}

// TestRedisAway has Redis killed, started empty, and stopped.
func TestRedisAway(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two := join(t, settings, "one", "1"), join(t, settings, "two", "2")
	eventually(t, "relays", one.names, "one two")

	failed := func() string { return fmt.Sprint(one.Status().Err != nil) }
	redisServer.Kill()
	eventually(t, "failure", failed, "true")
	eventually(t, "relays without Redis", one.names, "")
	redisServer.Run(t)
	eventually(t, "relays after an empty restart", one.names, "one two")

	redisServer.Stop()
	eventually(t, "failure", failed, "true")
	eventually(t, "relays while Redis is stopped", two.names, "")
	redisServer.Continue()
	eventually(t, "relays afterwards", two.names, "one two")
	for what, n := range map[string]int{"cannot be used": one.log.count("Redis cannot be used"), "can be used again": one.log.count("can be used again")} {
		if n != 2 {
			t.Errorf("%q was logged %d times in two outages", what, n)
		}
	}
	if status := one.Status(); status.Err != nil || status.Failures == 0 {
		t.Errorf("status %+v", status)
	}
}

// TestGarbageInRedis has announcements that cannot be read, and keys of other types.
func TestGarbageInRedis(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one := join(t, settings, "one", "1")
	client := settings.client()
	defer client.Close()
	for name, text := range map[string]string{"a": "", "b": "{", "c": strings.Repeat(" ", maxAnnouncement+1), "d": `{"name":"d"}`, "e": "null"} {
		if err := client.HSet(t.Context(), relayKeys("mailturn")[0], name, text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	one.set(func(r *Relay) { r.Allocations = 5 })
	eventually(t, "relays", func() string {
		return one.names() + fmt.Sprint(len(one.Relays()) == 1 && one.Relays()[0].Allocations == 5)
	}, "onetrue")
	if err := client.Del(t.Context(), relayKeys("mailturn")[0]).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Set(t.Context(), relayKeys("mailturn")[0], "a string", 0).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "announcements after a key had the wrong type", func() string {
		return fmt.Sprint(client.HLen(t.Context(), relayKeys("mailturn")[0]).Val(), one.Status().Failures, one.Status().Err)
	}, "1 1 <nil>")
	eventually(t, "relays afterwards", one.names, "one")
}

// TestAnnouncementsAreBounded fills Redis with relays.
func TestAnnouncementsAreBounded(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	client := settings.client()
	defer client.Close()
	for i := range maxRelays {
		relay := Relay{Name: fmt.Sprint("r", i), Incarnation: "x", Server: "r.example.org", UDP: []uint16{3478}}
		text, err := relay.encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := announce.Run(t.Context(), client, relayKeys("mailturn"), time.Minute.Milliseconds(), maxRelays, maxAnnouncement, relay.Name, text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	err := announce.Run(t.Context(), client, relayKeys("mailturn"), time.Minute.Milliseconds(), maxRelays, maxAnnouncement, "one more", "{}").Err()
	if err == nil || err.Error() != "ERR there are 1000 relays already" {
		t.Errorf("one more: %v", err)
	}
}

// TestForeignAnnouncementsAreRemoved has Redis evict the times of the announcements, and somebody fill it with announcements that have
// none. Those could never expire.
func TestForeignAnnouncementsAreRemoved(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, two := join(t, settings, "one", "1"), join(t, settings, "two", "2")
	eventually(t, "relays", one.names, "one two")
	two.stop()
	<-two.stopped
	client := settings.client()
	defer client.Close()
	keys := relayKeys("mailturn")
	if err := client.Del(t.Context(), keys[1]).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "relays without the dead one", one.names, "one")
	for i := range 2 * maxRelays {
		if err := client.HSet(t.Context(), keys[0], fmt.Sprint("x", i), "{}").Err(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "announcements in Redis", func() string {
		n, err := client.HLen(t.Context(), keys[0]).Result()
		return fmt.Sprint(n, err)
	}, "1 <nil>")
	eventually(t, "relays afterwards", one.names, "one")
}

// TestUserOfRedis uses a user who may only do what the documentation says is needed.
func TestUserOfRedis(t *testing.T) {
	if text, err := os.ReadFile("../../docs/cluster.md"); err != nil || !strings.Contains(string(text), " ~mailturn:* resetchannels "+aclCommands+"\n") {
		t.Errorf("docs/cluster.md lets the user do something else: %v", err)
	}
	redisServer := redistest.Start(t, "user default off", "user mailturn on >secret ~mailturn:* resetchannels "+aclCommands)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	settings.Block.User.V, settings.Block.Password.V = "mailturn", "secret\n"
	one := join(t, settings, "one", "1")
	eventually(t, "relays", one.names, "one")
	one.Stop()
	if n := one.log.count("level=WARN") + one.log.count("level=ERROR"); n != 0 {
		t.Error(one.log.text.String())
	}

	settings.Block.Password.V = "wrong"
	two := join(t, settings, "two", "2")
	eventually(t, "error", func() string { return fmt.Sprint(two.log.count("WRONGPASS")) }, "1")
}

// aclCommands are what docs/cluster.md lets the user of Redis do.
var aclCommands = "-@all " + strings.Join(documentedRules, " ")

// TestSentinel has the master fail, and one of its replicas take over, while users allocate: 1000 a second, who do not wait for that, and of
// all of whom the other relay knows afterwards.
func TestSentinel(t *testing.T) {
	master := redistest.Start(t)
	redistest.Start(t, "replicaof 127.0.0.1 "+master.Port())
	redistest.Start(t, "replicaof 127.0.0.1 "+master.Port())
	var sentinels []string
	for range 3 {
		sentinel := redistest.StartSentinel(t, "sentinel monitor m 127.0.0.1 "+master.Port()+" 2",
			"sentinel down-after-milliseconds m 500", "sentinel failover-timeout m 2000")
		sentinels = append(sentinels, sentinel.Addr)
	}
	waitForReplicas(t, sentinels)
	settings := settingsFor(t, modeSentinel, sentinels...)
	one, two := join(t, settings, "one", "1"), join(t, settings, "two", "2")
	eventually(t, "relays", one.names, "one two")
	here, there := NewLimits(one.Directory, "1"), NewLimits(two.Directory, "2")
	for _, l := range []*Limits{here, there} {
		l.Start()
		t.Cleanup(l.Stop)
	}
	over, loaded := make(chan struct{}), make(chan int, 1)
	go func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for users := 0; ; {
			select {
			case <-over:
				loaded <- users
				return
			case <-ticker.C:
			}
			for range 10 {
				began := time.Now()
				if here.Hold(fmt.Sprint("user", users), Holding{Addresses: 1}); time.Since(began) > timeout/2 {
					t.Errorf("an allocation took %v", time.Since(began))
				}
				users++
			}
		}
	}()
	master.Kill()
	killed := time.Now()
	eventually(t, "relays without a master", one.names, "")
	eventually(t, "relays after the failover", two.names, "one two")
	t.Logf("failover took %v", time.Since(killed).Round(time.Millisecond))
	close(over)
	users := <-loaded
	eventually(t, "what users have elsewhere after the failover", func() string {
		n := 0
		for i := range users {
			n += there.Addresses(fmt.Sprint("user", i))
		}
		return fmt.Sprint(n)
	}, fmt.Sprint(users))
}

// waitForReplicas waits until the Sentinels know each other and the replicas, without which there is no failover.
func waitForReplicas(t *testing.T, sentinels []string) {
	t.Helper()
	for _, addr := range sentinels {
		client := redis.NewSentinelClient(&redis.Options{Addr: addr})
		defer client.Close()
		eventually(t, "what Sentinel knows", func() string {
			master, err := client.Master(t.Context(), "m").Result()
			return fmt.Sprint(master["num-slaves"], " ", master["num-other-sentinels"], " ", err)
		}, "2 2 <nil>")
	}
}

// TestRedisCluster uses a Redis Cluster of three masters and three replicas, and kills the master that has the keys.
func TestRedisCluster(t *testing.T) {
	nodes := make(map[string]*redistest.Server)
	var addrs []string
	for range 6 {
		node := redistest.Start(t, "cluster-enabled yes", "cluster-node-timeout 1000", "cluster-replica-validity-factor 0")
		nodes[node.Addr] = node
		addrs = append(addrs, node.Addr)
	}
	args := append([]string{"--cluster", "create"}, addrs...)
	if out, err := exec.CommandContext(t.Context(), "redis-cli", append(args, "--cluster-replicas", "1", "--cluster-yes")...).CombinedOutput(); err != nil {
		t.Fatalf("redis-cli: %v\n%s", err, out)
	}
	settings := settingsFor(t, modeCluster, addrs[:3]...)
	one, two := join(t, settings, "one", "1"), join(t, settings, "two", "2")
	eventually(t, "relays", one.names, "one two")

	// What all machines know is in one slot, and what users have is in many.
	sharing, other := newSharer().share(t, settings, "1", "A"), newSharer().share(t, settings, "2", "")
	if err := sharing.set(t, "a", "1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "entries", other.values, "a=1")
	eventually(t, "zeros", sharing.begins, "0")
	sharing.issue(2_000_000_000, "alice")
	eventually(t, "names", other.known, "map[2000000000:alice]")
	here, there := NewLimits(one.Directory, "1"), NewLimits(two.Directory, "2")
	for _, l := range []*Limits{here, there} {
		l.Start()
		t.Cleanup(l.Stop)
	}
	const users = 50
	held := func() string {
		n := 0
		for i := range users {
			n += there.Addresses(fmt.Sprint("user", i))
		}
		return fmt.Sprint(n)
	}
	for i := range users {
		here.Hold(fmt.Sprint("user", i), Holding{Addresses: 2})
	}
	eventually(t, "what users have elsewhere", held, fmt.Sprint(2*users))

	client := settings.client().(*redis.ClusterClient)
	defer client.Close()
	holder, err := client.MasterForKey(t.Context(), relayKeys("mailturn")[0])
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(holder.Options().Addr).String()
	eventually(t, "a replica of the master", func() string {
		info, err := holder.Info(context.Background(), "replication").Result()
		return fmt.Sprint(strings.Contains(info, "state=online"), " ", err)
	}, "true <nil>")
	nodes[addr].Kill()
	killed := time.Now()
	eventually(t, "relays without a master", one.names, "")
	eventually(t, "relays after the failover", func() string { return one.names() + ", " + two.names() }, "one two, one two")
	t.Logf("failover took %v", time.Since(killed).Round(time.Millisecond))
	eventually(t, "an entry after the failover", func() string { return fmt.Sprint(sharing.set(t, "b", "2")) }, "<nil>")
	eventually(t, "entries after the failover", other.values, "a=1 b=2")
	sharing.issue(2_000_000_001, "bob")
	eventually(t, "names after the failover", other.known, "map[2000000000:alice 2000000001:bob]")
	for i := range users {
		here.Hold(fmt.Sprint("user", i), Holding{Addresses: 3})
	}
	eventually(t, "what users have elsewhere after the failover", held, fmt.Sprint(3*users))
	if !slices.Contains(addrs, addr) {
		t.Errorf("%s is not a node of the cluster", addr)
	}
}

// TestAnswerIsBounded has somebody write long announcements, more than there may be relays, and times of announcements in the future.
func TestAnswerIsBounded(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	client := settings.client()
	defer client.Close()
	keys, now := relayKeys("mailturn"), float64(time.Now().UnixMilli())
	for i := range 2 * maxRelays {
		name := fmt.Sprint("r", i)
		client.HSet(t.Context(), keys[0], name, strings.Repeat("x", 100))
		client.ZAdd(t.Context(), keys[1], redis.Z{Score: now, Member: name})
	}
	client.HSet(t.Context(), keys[0], "long", strings.Repeat("x", 1<<20), "future", "{}", "never", "{}")
	client.ZAdd(t.Context(), keys[1], redis.Z{Score: 0, Member: "past"}, redis.Z{Score: now - 1, Member: "long"},
		redis.Z{Score: now + 3600e3, Member: "future"}, redis.Z{Score: math.Inf(1), Member: "never"})
	texts, err := announce.Run(t.Context(), client, keys, time.Minute.Milliseconds(), maxRelays, maxAnnouncement).StringSlice()
	const maxAge = 5 // digits
	size := 0
	for _, text := range texts {
		size += len(text)
	}
	if err != nil || len(texts) > 2*maxRelays || size > (100+maxAge)*maxRelays {
		t.Errorf("the answer has %d values of %d bytes: %v", len(texts), size, err)
	}
	for _, name := range []string{"past", "future", "never"} {
		if exists := client.HExists(t.Context(), keys[0], name).Val(); exists {
			t.Errorf("%s still exists", name)
		}
	}
}
