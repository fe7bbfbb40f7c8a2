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

	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/relay"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// recorder keeps the events of a server. Answers are sent after their events, so that whoever has the answer finds them.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) record(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// take returns what has happened since the last take.
func (r *recorder) take() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// TestRefusalsAreEvents has an Allocate request refused for each reason that a client can bring about.
func TestRefusalsAreEvents(t *testing.T) {
	var events recorder
	config := familiesConfig(t, address4)
	config.OnEvent = events.record
	config.Relay = testRelay(t, relay.Config{
		Addresses: []relay.Address{address4}, MinPort: 62000, MaxPort: 62000, Listen: newMemNet().listen,
	})
	config.ExpiredGrace = -1
	config.Authenticator = credential.Verifier{Secrets: []credential.Secret{credential.NewSecret([]byte(testSecret))}, MaxLifetime: 24 * time.Hour}
	server := startServer(t, config)
	good := testCredential()
	secret := credential.NewSecret([]byte(testSecret))
	none := Quotas{}

	holder := dial(t, "udp", server.udp)
	holder.allocate() // which takes the only port
	events.take()
	for _, test := range []struct {
		reason RefusalReason
		code   stun.ErrorCode
		quotas Quotas
		cred   credential.Credential
		sets   []set
	}{
		{RefusedCredentials, 401, none, credential.Credential{Username: good.Username, Password: "wrong"}, []set{transportUDP}},
		{RefusedCredentials, 401, none, credential.Credential{Username: "alice", Password: "wrong"}, []set{transportUDP}},
		{RefusedExpired, 401, none, credential.Issuer{Secret: secret, TTL: -time.Second}.Issue(time.Now()), []set{transportUDP}},
		{RefusedFarExpiry, 401, none, credential.Issuer{Secret: secret, TTL: 25 * time.Hour}.Issue(time.Now()), []set{transportUDP}},
		{RefusedTransport, 400, none, good, nil},
		{RefusedTransport, 442, none, good, []set{attr32(stun.AttrRequestedTransport, 6<<24)}},
		{RefusedAttributes, 400, none, good, []set{transportUDP, attr(stun.AttrEvenPort)}},
		{RefusedAttributes, 420, none, good, []set{transportUDP, attr(0x7F01)}},
		{RefusedFamily, 440, none, good, []set{transportUDP, family(stun.IPv6)}},
		{RefusedFamily, 440, none, good, []set{transportUDP, family(3)}},
		{RefusedTotalQuota, 486, Quotas{MaxAllocations: 1}, good, []set{transportUDP}},
		{RefusedUserQuota, 486, Quotas{MaxAllocationsPerUser: 1}, good, []set{transportUDP}},
		{RefusedSourceQuota, 486, Quotas{MaxAllocationsPerSource: 1}, good, []set{transportUDP}},
		{RefusedToken, 508, none, good, []set{transportUDP, attr(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)}},
		{RefusedNoPort, 508, none, good, []set{transportUDP}},
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
			if len(got) != 1 || got[0].Kind != AllocationRefused || got[0].Refusal != test.reason || got[0].Code != test.code ||
				got[0].Username != test.cred.Username || (got[0].Subject == credential.Subject{}) != (test.reason == RefusedCredentials) || got[0].Tuple.Client != addrPortOf(c.conn.LocalAddr()) {
				t.Errorf("events %+v", got)
			}
			after := server.Counters()
			if n := after.AllocationsRefused[test.reason] - before.AllocationsRefused[test.reason]; n != 1 {
				t.Errorf("%d refusals were counted, want 1", n)
			}
			// The first request, which asks for a nonce, is answered 401 too. It is no event: every client begins so.
			response := ErrorResponse{stun.MethodAllocate, test.code}
			want := map[bool]uint64{false: 1, true: 2}[test.code == 401]
			if n := after.Errors[response] - before.Errors[response]; n != want {
				t.Errorf("%d responses with %d were counted, want %d", n, test.code, want)
			}
		})
	}
	server.SetQuotas(none)
	holder.want(holder.request(stun.MethodAllocate, transportUDP), 437)
	if got := events.take(); len(got) != 1 || got[0].Refusal != RefusedTupleInUse {
		t.Errorf("events %+v", got)
	}
	server.shared.draining.Store(true)
	c := dial(t, "udp", server.udp)
	c.want(c.request(stun.MethodAllocate, transportUDP), 508)
	if got := events.take(); len(got) != 1 || got[0].Refusal != RefusedDraining {
		t.Errorf("events %+v", got)
	}
}

// TestHalfARefusalIsAnEvent wants the family that is missing from a dual allocation to be told of.
func TestHalfARefusalIsAnEvent(t *testing.T) {
	var events recorder
	config := familiesConfig(t, address4)
	config.OnEvent = events.record
	c, _ := udpClient(t, config)
	c.want(c.request(stun.MethodAllocate, transportUDP, additional), 0)
	if got := events.take(); len(got) != 2 || got[0].Kind != AllocationMade || got[1].Refusal != RefusedFamily || got[1].Code != 440 {
		t.Errorf("events %+v", got)
	}
}

// TestEventsOfALife walks an allocation from its beginning to its end.
func TestEventsOfALife(t *testing.T) {
	var events recorder
	var log bytes.Buffer
	config := testConfig(t)
	config.OnEvent = events.record
	config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var accounts credential.Accounts
	secret := credential.NewSecret([]byte(testSecret))
	config.Authenticator = credential.Verifier{Secrets: []credential.Secret{secret}, Accounts: &accounts}
	server := startServer(t, config)
	c := dial(t, "tcp", server.tcp)
	c.use(accounts.Issue(credential.Issuer{Secret: secret, TTL: time.Hour}, "alice@example.org", time.Now()))
	relayed := c.allocate()
	far := addrPortOf(echo(t))
	c.want(c.request(stun.MethodChannelBind, channel(0x4000), peerAddr(far)), 0)
	c.write(channelData(0x4000, "0123456789"))
	c.read()
	if got := server.Counters(); got.Allocations != 1 || got.AllocationsByTransport[TCP] != 1 || got.AllocationsByTransport[UDP] != 0 {
		t.Errorf("live: %d, %v", got.Allocations, got.AllocationsByTransport)
	}
	c.want(c.request(stun.MethodRefresh, lifetime(777)), 0)
	c.want(c.request(stun.MethodRefresh, lifetime(0)), 0)

	tuple := FiveTuple{Client: addrPortOf(c.conn.LocalAddr()), Server: server.tcp, Transport: TCP}
	once := Traffic{Packets: 1, Bytes: 10}
	name := c.credential.Username
	want := []Event{
		{Kind: AllocationMade, Tuple: tuple, Username: name, Subject: credential.Subject{Name: "alice@example.org"}, Relayed: relayed, Lifetime: 10 * time.Minute},
		{Kind: AllocationRefreshed, Tuple: tuple, Username: name, Subject: credential.Subject{Name: "alice@example.org"}, Relayed: relayed, Lifetime: 777 * time.Second},
		{Kind: AllocationEnded, Tuple: tuple, Username: name, Subject: credential.Subject{Name: "alice@example.org"}, Relayed: relayed, End: EndedByClient, ToPeer: once, ToClient: once},
	}
	got := events.take()
	for i := range got {
		if time.Since(got[i].Time) > time.Minute {
			t.Errorf("%v at %v", got[i].Kind, got[i].Time)
		}
		got[i].Time = time.Time{}
	}
	equal := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Error(diff)
	}
	counted := server.Counters()
	if counted.AllocationsMade != 1 || counted.AllocationsRefreshed != 1 || counted.AllocationsEnded[EndedByClient] != 1 ||
		counted.AllocationsByTransport[TCP] != 0 || counted.ToPeer != once || counted.ToClient != once {
		t.Errorf("counters %+v", counted)
	}
	if err := server.Close(); err != nil { // nobody writes to the log any more
		t.Fatal(err)
	}
	for _, line := range []string{
		`msg="allocation made" allocation.client=` + tuple.Client.String() + ` allocation.transport=TCP allocation.username=` + name +
			` allocation.account=alice@example.org allocation.relay=` + relayed.String() + ` allocation.lifetime=10m0s`,
		`msg="allocation ended" allocation.client=` + tuple.Client.String() + ` allocation.transport=TCP allocation.username=` + name +
			` allocation.account=alice@example.org allocation.relay=` + relayed.String() + ` allocation.reason=client allocation.to_peer_bytes=10 allocation.to_peer_packets=1` +
			` allocation.to_client_bytes=10 allocation.to_client_packets=1`,
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("no %q in\n%s", line, log.String())
		}
	}
}

// TestCountersAreComplete wants every label to be there before anything has happened, and each to be another one.
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
	labels(names(maps.Keys(c.Dropped)), int(numDropReasons))
	labels(names(maps.Keys(c.AllocationsRefused)), int(numRefusalReasons))
	labels(names(maps.Keys(c.AllocationsEnded)), int(numEndReasons))
	labels(names(maps.Keys(c.AllocationsByTransport)), int(numTransports))
	// Every code that can be answered is one that is counted.
	for code := range stun.ErrorCode(700) {
		if counted := slices.Contains(errorCodes[:], code); counted != (code.Reason() != "") {
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

// BenchmarkCounters is what one look of a monitoring system costs.
func BenchmarkCounters(b *testing.B) {
	server, err := New(testConfig(b))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_ = server.Counters()
	}
}
