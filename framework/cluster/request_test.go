package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

func TestRequestIsAuthentic(t *testing.T) {
	relay := relaysOf(1)[0]
	r := NewRequest(Upgrade, "mail", relay, []byte("a"))
	if !r.Authentic([]byte("a")) || r.Authentic([]byte("b")) {
		t.Error("the secret does not decide")
	}
	for what, change := range map[string]func(*Request){
		"ID": func(r *Request) { r.ID = "x" }, "Do": func(r *Request) { r.Do = "x" }, "By": func(r *Request) { r.By = "x" },
		"Name": func(r *Request) { r.Name = "x" }, "Incarnation": func(r *Request) { r.Incarnation = "x" }, "MAC": func(r *Request) { r.MAC = "" },
	} {
		changed := r
		if change(&changed); changed.Authentic([]byte("a")) {
			t.Errorf("a request with another %s is authentic", what)
		}
	}
}

// serving joins a machine that takes requests.
func serving(t *testing.T, settings Settings, name string) (*machine, chan Request) {
	t.Helper()
	m := newMachine(settings, name, name)
	requests := make(chan Request, 10)
	m.Serve(func(r Request) { requests <- r })
	m.Start()
	t.Cleanup(m.Stop)
	return m, requests
}

func TestRequests(t *testing.T) {
	redisServer := redistest.Start(t, "user default off", "user mailturn on >secret ~mailturn:* resetchannels "+aclCommands)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	settings.Block.User.V, settings.Block.Password.V = "mailturn", "secret"
	one, requests := serving(t, settings, "one")
	two, others := serving(t, settings, "two")
	eventually(t, "relays", two.names, "one two")
	to := two.Relays()[0]

	late := NewRequest(Upgrade, "two", to, []byte("s"))
	late.Incarnation = "another"
	if err := two.Ask(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	eventually(t, "requests in Redis", func() string {
		n, err := two.client.HLen(t.Context(), requestKeys("mailturn")[0]).Result()
		return fmt.Sprint(n, err)
	}, "0 <nil>")
	want := NewRequest(Upgrade, "two", to, []byte("s"))
	if err := two.Ask(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if got := <-requests; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	one.set(func(r *Relay) { r.Answer = &Answer{want.ID, "no"} })
	eventually(t, "answer", func() string {
		return fmt.Sprint(two.Relays()[0].Answer != nil && *two.Relays()[0].Answer == Answer{want.ID, "no"})
	}, "true")
	if len(requests) != 0 || len(others) != 0 {
		t.Errorf("%d further requests, and %d to the other machine", len(requests), len(others))
	}
}

// TestBadRequests has somebody write requests that are too old, too long, or no requests, and many.
func TestBadRequests(t *testing.T) {
	redisServer := redistest.Start(t)
	settings := settingsFor(t, modeStandalone, redisServer.Addr)
	one, requests := serving(t, settings, "one")
	key := requestKeys("mailturn")[0]
	now, err := one.client.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "{}", "x {}", fmt.Sprint(now.UnixMilli(), " {}"), fmt.Sprint(now.UnixMilli(), " null"), strings.Repeat("1", maxRequest+1),
		fmt.Sprint(now.Add(-requestLifetime).UnixMilli(), ` {"id":"a","do":"upgrade","name":"one","incarnation":"one","mac":"00"}`),
	} {
		if err := one.client.HSet(t.Context(), key, "one", text).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "requests in Redis", func() string { return fmt.Sprint(one.client.HExists(t.Context(), key, "one").Val() && text != "") }, "false")
	}
	if len(requests) != 0 {
		t.Errorf("%d requests were taken", len(requests))
	}
	for i := range maxRelays {
		if err := one.client.HSet(t.Context(), key, fmt.Sprint("r", i), fmt.Sprint(now.UnixMilli(), " {}")).Err(); err != nil {
			t.Fatal(err)
		}
	}
	to := one.announced()[0]
	if err := one.Ask(t.Context(), NewRequest(Upgrade, "", to, nil)); err == nil || !strings.Contains(err.Error(), "there are 1000 requests already") {
		t.Errorf("one more request: %v", err)
	}
	for i := range maxRelays {
		if err := one.client.HSet(t.Context(), key, fmt.Sprint("r", i), "0 {}").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := one.Ask(t.Context(), NewRequest(Upgrade, "", to, nil)); err != nil {
		t.Error(err)
	}
	if n := one.client.HLen(t.Context(), key).Val(); n > 1 {
		t.Errorf("%d requests are left", n)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(`{"id":"a","do":"upgrade","by":"b","name":"c","incarnation":"d","mac":"00"}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRequest(text)
		if err == nil && (r.Authentic([]byte("secret")) || len(r.By) > maxName) {
			t.Errorf("%+v", r)
		}
	})
}
