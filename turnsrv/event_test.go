package turnsrv

import (
	"bytes"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mailturn/mailturn/turnsrv/ban"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/event"
	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
	"github.com/mailturn/mailturn/turnsrv/internal/udp"
	"github.com/mailturn/mailturn/turnsrv/limit"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// recorder collects the events of a server. Each event is recorded before its response is sent.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
}

func (r *recorder) record(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// take returns the events since the previous take.
func (r *recorder) take() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// TestRefusalsAreEvents causes every refusal of an Allocate request that a client can cause.
func TestRefusalsAreEvents(t *testing.T) {
	var events recorder
	config := familiesConfig(t, turntest.Address4)
	config.OnEvent = events.record
	config.Relay = turntest.TestRelay(t, relay.Config{
		Addresses: []relay.Address{turntest.Address4}, MinPort: 62000, MaxPort: 62000, Listen: turntest.NewMemNet().Listen,
	})
	config.ExpiredGrace = -1
	config.Bans = new(ban.List)
	config.Bans.Set([]ban.Ban{{Account: "mallory", Until: time.Now().Add(time.Hour)}})
	config.Authenticator = credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte(turntest.TestSecret))},
		MaxLifetime: 24 * time.Hour}
	server := startServer(t, config)
	good := turntest.TestCredential()
	secret := credential.NewSecret([]byte(turntest.TestSecret))
	none := limit.Quotas{}

	holder := dial(t, "udp", server.udp)
	holder.allocate() // which takes the only port
	events.take()
	for _, test := range []struct {
		reason event.RefusalReason
		code   stun.ErrorCode
		quotas limit.Quotas
		cred   credential.Credential
		sets   []turntest.Set
	}{
		{event.RefusedCredentials, 401, none, credential.Credential{Username: good.Username, Password: "wrong"},
			[]turntest.Set{turntest.TransportUDP}},
		{event.RefusedCredentials, 401, none, credential.Credential{Username: "alice", Password: "wrong"},
			[]turntest.Set{turntest.TransportUDP}},
		{event.RefusedExpired, 401, none, credential.Issuer{Secret: secret, TTL: -time.Second}.Issue(time.Now()),
			[]turntest.Set{turntest.TransportUDP}},
		{event.RefusedFarExpiry, 401, none, credential.Issuer{Secret: secret, TTL: 25 * time.Hour}.Issue(time.Now()),
			[]turntest.Set{turntest.TransportUDP}},
		{event.RefusedBanned, 403, none, credential.Issuer{Secret: secret, TTL: time.Hour}.IssueFor("mallory", time.Now()),
			[]turntest.Set{turntest.TransportUDP}},
		{event.RefusedTransport, 400, none, good, nil},
		{event.RefusedTransport, 442, none, good, []turntest.Set{turntest.Attr32(stun.AttrRequestedTransport, 6<<24)}},
		{event.RefusedAttributes, 400, none, good, []turntest.Set{turntest.TransportUDP, turntest.Attr(stun.AttrEvenPort)}},
		{event.RefusedAttributes, 420, none, good, []turntest.Set{turntest.TransportUDP, turntest.Attr(0x7F01)}},
		{event.RefusedFamily, 440, none, good, []turntest.Set{turntest.TransportUDP, family(stun.IPv6)}},
		{event.RefusedFamily, 440, none, good, []turntest.Set{turntest.TransportUDP, family(3)}},
		{event.RefusedTotalQuota, 486, limit.Quotas{MaxAllocations: 1}, good, []turntest.Set{turntest.TransportUDP}},
		{event.RefusedUserQuota, 486, limit.Quotas{MaxAllocationsPerUser: 1}, good, []turntest.Set{turntest.TransportUDP}},
		{event.RefusedSourceQuota, 486, limit.Quotas{MaxAllocationsPerSource: 1}, good, []turntest.Set{turntest.TransportUDP}},
		{event.RefusedToken, 508, none, good, []turntest.Set{turntest.TransportUDP,
			turntest.Attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)}},
		{event.RefusedNoPort, 508, none, good, []turntest.Set{turntest.TransportUDP}},
	} {
		t.Run(test.reason.String(), func(t *testing.T) {
			before := server.Counters()
			server.SetQuotas(test.quotas)
			if test.quotas.MaxAllocationsPerUser > 0 {
				test.cred = holder.credential
			}
			c := dial(t, "udp", server.udp)
			c.use(test.cred)
			c.want(c.request(stun.MethodAllocate, test.sets...), test.code)
			got := events.take()
			if len(got) != 1 || got[0].Kind != event.AllocationRefused || got[0].Refusal != test.reason || got[0].Code != test.code ||
				got[0].Username != test.cred.Username ||
				(got[0].Subject == credential.Subject{}) != (test.reason == event.RefusedCredentials) ||
				got[0].Tuple.Client != udp.AddrPortOf(c.conn.LocalAddr()) {
				t.Errorf("events %+v", got)
			}
			after := server.Counters()
			if n := after.AllocationsRefused[test.reason] - before.AllocationsRefused[test.reason]; n != 1 {
				t.Errorf("%d refusals were counted, want 1", n)
			}
			// The first request, which asks for a nonce, is also answered with 401. It is not an event, because every client begins
			// this way.
			response := ErrorResponse{stun.MethodAllocate, test.code}
			want := map[bool]uint64{false: 1, true: 2}[test.code == 401]
			if n := after.Errors[response] - before.Errors[response]; n != want {
				t.Errorf("%d responses with %d were counted, want %d", n, test.code, want)
			}
		})
	}
	server.SetQuotas(none)
	holder.want(holder.request(stun.MethodAllocate, turntest.TransportUDP), 437)
	if got := events.take(); len(got) != 1 || got[0].Refusal != event.RefusedTupleInUse {
		t.Errorf("events %+v", got)
	}
	server.shared.Drain()
	c := dial(t, "udp", server.udp)
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP), 508)
	if got := events.take(); len(got) != 1 || got[0].Refusal != event.RefusedDraining {
		t.Errorf("events %+v", got)
	}
}

// TestHalfARefusalIsAnEvent checks that the missing family of a dual allocation is reported.
func TestHalfARefusalIsAnEvent(t *testing.T) {
	var events recorder
	config := familiesConfig(t, turntest.Address4)
	config.OnEvent = events.record
	c, _ := udpClient(t, config)
	c.want(c.request(stun.MethodAllocate, turntest.TransportUDP, turntest.Additional), 0)
	if got := events.take(); len(got) != 2 || got[0].Kind != event.AllocationMade || got[1].Refusal != event.RefusedFamily ||
		got[1].Code != 440 {
		t.Errorf("events %+v", got)
	}
}

// TestEventsOfALife follows an allocation from beginning to end.
func TestEventsOfALife(t *testing.T) {
	var events recorder
	var log bytes.Buffer
	config := testConfig(t)
	config.OnEvent = events.record
	config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var accounts credential.Accounts
	secret := credential.NewSecret([]byte(turntest.TestSecret))
	config.Authenticator = credential.Verifier{Secrets: []credential.Secret{secret}, Accounts: &accounts}
	server := startServer(t, config)
	c := dial(t, "tcp", server.tcp)
	c.use(accounts.Issue(credential.Issuer{Secret: secret, TTL: time.Hour}, "alice@example.org", time.Now()))
	relayed := c.allocate()
	far := udp.AddrPortOf(echo(t))
	c.want(c.request(stun.MethodChannelBind, turntest.Channel(0x4000), turntest.PeerAddr(far)), 0)
	c.write(turntest.ChannelData(0x4000, "0123456789"))
	c.read()
	if got := server.Counters(); got.Allocations != 1 || got.AllocationsByTransport[event.TCP] != 1 ||
		got.AllocationsByTransport[event.UDP] != 0 {
		t.Errorf("live: %d, %v", got.Allocations, got.AllocationsByTransport)
	}
	c.want(c.request(stun.MethodRefresh, turntest.Lifetime(777)), 0)
	c.want(c.request(stun.MethodRefresh, turntest.Lifetime(0)), 0)

	tuple := event.FiveTuple{Client: udp.AddrPortOf(c.conn.LocalAddr()), Server: server.tcp, Transport: event.TCP}
	once := event.Traffic{Packets: 1, Bytes: 10}
	name := c.credential.Username
	want := []event.Event{
		{Kind: event.AllocationMade, Tuple: tuple, Username: name, Subject: credential.Subject{Name: "alice@example.org"},
			Relayed: relayed, Lifetime: 10 * time.Minute},
		{Kind: event.AllocationRefreshed, Tuple: tuple, Username: name, Subject: credential.Subject{Name: "alice@example.org"},
			Relayed: relayed, Lifetime: 777 * time.Second},
		{Kind: event.AllocationEnded, Tuple: tuple, Username: name, Subject: credential.Subject{Name: "alice@example.org"},
			Relayed: relayed, End: event.EndedByClient, ToPeer: once, ToClient: once},
	}
	got := events.take()
	madeAt := got[0].Time
	for i := range got {
		if time.Since(got[i].Time) > time.Minute {
			t.Errorf("%v at %v", got[i].Kind, got[i].Time)
		}
		if ended := got[i].Kind == event.AllocationEnded; ended != got[i].Made.Equal(madeAt) {
			t.Errorf("%v says that the allocation was made at %v, and it was at %v", got[i].Kind, got[i].Made, madeAt)
		}
		got[i].Time, got[i].Made = time.Time{}, time.Time{}
	}
	equal := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Error(diff)
	}
	counted := server.Counters()
	if counted.AllocationsMade != 1 || counted.AllocationsRefreshed != 1 || counted.AllocationsEnded[event.EndedByClient] != 1 ||
		counted.AllocationsByTransport[event.TCP] != 0 || counted.ToPeer != once || counted.ToClient != once {
		t.Errorf("counters %+v", counted)
	}
	if err := server.Close(); err != nil { // nothing is logged after Close
		t.Fatal(err)
	}
	for _, line := range []string{
		`msg="allocation made" allocation.client=` + tuple.Client.String() + ` allocation.transport=TCP allocation.username=` + name +
			` allocation.account=alice@example.org allocation.relay=` + relayed.String() + ` allocation.lifetime=10m0s`,
		`msg="allocation ended" allocation.client=` + tuple.Client.String() + ` allocation.transport=TCP allocation.username=` + name +
			` allocation.account=alice@example.org allocation.relay=` + relayed.String() + ` allocation.reason=client` +
			` allocation.to_peer_bytes=10 allocation.to_peer_packets=1` +
			` allocation.to_client_bytes=10 allocation.to_client_packets=1`,
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("no %q in\n%s", line, log.String())
		}
	}
}

// TestCountersAreComplete checks that every label is present from the start and unique.
func TestCountersAreComplete(t *testing.T) {
	server, err := New(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	c := server.Counters()
	labels := func(names []string, n int) {
		t.Helper()
		slices.Sort(names)
		if got := slices.Compact(slices.Clone(names)); len(got) != n || got[0] == "" || len(names) != n {
			t.Errorf("labels %q, want %d", names, n)
		}
	}
	labels(names(maps.Keys(c.Dropped)), int(event.NumDropReasons))
	labels(names(maps.Keys(c.AllocationsRefused)), int(event.NumRefusalReasons))
	labels(names(maps.Keys(c.AllocationsEnded)), int(event.NumEndReasons))
	labels(names(maps.Keys(c.AllocationsByTransport)), int(event.NumTransports))
	// Every error code that can be sent is counted.
	for code := range stun.ErrorCode(700) {
		if counted := slices.Contains(count.ErrorCodes[:], code); counted != (code.Reason() != "") {
			t.Errorf("%d is counted: %v", code, counted)
		}
	}
}

func names[K interface{ String() string }](keys func(func(K) bool)) (names []string) {
	for key := range keys {
		names = append(names, key.String())
	}
	return names
}

// BenchmarkCounters measures one scrape of a monitoring system.
func BenchmarkCounters(b *testing.B) {
	server, err := New(testConfig(b))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_ = server.Counters()
	}
}
