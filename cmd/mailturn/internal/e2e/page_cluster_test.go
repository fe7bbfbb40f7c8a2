package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/browser"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/cluster/redistest"
)

// announced keeps relays alive in Redis that do not exist.
type announced struct {
	client *redis.Client
	cancel context.CancelFunc
	ended  chan struct{}
	relays chan []cluster.Relay // replace those before
}

// announce begins to announce relays, until stop.
func announce(t *testing.T, server *redistest.Server) announced {
	ctx, cancel := context.WithCancel(t.Context())
	a := announced{redis.NewClient(&redis.Options{Addr: server.Addr}), cancel, make(chan struct{}), make(chan []cluster.Relay)}
	go a.run(ctx)
	t.Cleanup(a.stop)
	return a
}

func (a announced) run(ctx context.Context) {
	defer close(a.ended)
	const info, seen = "mailturn:1:{relays}:info", "mailturn:1:{relays}:seen"
	var relays []cluster.Relay
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		pipeline := a.client.Pipeline()
		for _, r := range relays {
			text, _ := json.Marshal(r)
			pipeline.HSet(ctx, info, r.Name, text)
			pipeline.ZAdd(ctx, seen, redis.Z{Score: float64(time.Now().UnixMilli()), Member: r.Name})
		}
		_, _ = pipeline.Exec(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case next := <-a.relays:
			for _, r := range relays {
				a.client.HDel(ctx, info, r.Name)
				a.client.ZRem(ctx, seen, r.Name)
			}
			relays = next
		}
	}
}

// stop ends the announcements.
func (a announced) stop() {
	a.cancel()
	<-a.ended
	a.client.Close()
}

// TestClusterPage opens the page of the cluster: first with relays as an operator may have them, then with 250 whose names are markup, and
// then while Redis does not answer.
func TestClusterPage(t *testing.T) {
	n := newCallNetwork(t)
	certs := newCertificates(t)
	server := redistest.Start(t)
	n.startPage(t, certs, fmt.Sprintf("cluster {\n  redis = [\"redis://%s\"]\n  name = \"turn1\"\n  region = \"eu\"\n}\n", n.relay.redisInside(t, server, relayIPv4)))
	others := announce(t, server)
	own := cluster.SecretID([]byte(secret))
	example := func(number int, change func(*cluster.Relay)) cluster.Relay {
		name := fmt.Sprintf("turn%d.example.org", number)
		r := cluster.Relay{
			Name: name, Incarnation: name, Version: "v1.0.0", Server: name, UDP: []uint16{3478}, TCP: []uint16{3478}, TLS: []uint16{443}, Secrets: []string{own},
			Region: "eu", Weight: 1, Allocations: 207 + 10*number, Capacity: 10000, BitsPerSecond: int64(18_300_000 + 700_000*number),
		}
		change(&r)
		return r
	}
	others.relays <- []cluster.Relay{
		example(2, func(r *cluster.Relay) { r.Failed = map[string]string{"turn4.example.org": "TLS port 443: no answer"} }),
		example(3, func(r *cluster.Relay) { r.Refuses, r.Allocations, r.BitsPerSecond = cluster.Draining, 12, 900_000 }),
		example(4, func(r *cluster.Relay) { r.Region, r.Allocations, r.BitsPerSecond = "us", 3, 210_000 }),
		example(5, func(r *cluster.Relay) {
			r.Region, r.Failed = "us", map[string]string{"turn4.example.org": "TLS port 443: no answer"}
		}),
		example(6, func(r *cluster.Relay) { r.Region, r.Secrets = "us", []string{"another"} }),
	}
	v := openBrowser(t, browser.Chromium, n.alice, certs)
	v.login(t)
	v.wait(t, `!document.getElementById("cluster-link").hidden`)
	v.text(t, `document.getElementById("cluster-link").click()`)
	v.wait(t, `document.title === "Cluster · mailturn" && document.querySelectorAll("#relays tr").length === 6`)
	want := func(name string, parts ...string) {
		t.Helper()
		row := v.text(t, fmt.Sprintf(`[...document.querySelectorAll("#relays tr")].find((e) => e.querySelector("th").textContent.startsWith(%q))?.innerText`, name))
		for _, part := range parts {
			if !strings.Contains(row, part) {
				t.Errorf("the row of %s lacks %s: %s", name, part, row)
			}
		}
	}
	want("turn1", "This machine", "Serving", "UDP 3478", "TLS 5349", "s ago")
	want("turn2.example.org", "Serving", "10,000", "20 Mbit/s", "v1.0.0", "eu")
	want("turn3.example.org", "Draining")
	want("turn4.example.org", "Unreachable", "Cannot be reached from turn2.example.org: TLS port 443: no answer")
	want("turn6.example.org", "accepts no secret of this machine")
	if got := v.text(t, `document.getElementById("headline").textContent`); got != "2 relays need attention" {
		t.Errorf("the headline is %q", got)
	}
	v.look(t, "cluster", 1360, false)
	v.look(t, "cluster-dark", 1360, true)
	v.look(t, "cluster-phone", 390, false)

	const markup = `<img src=x onerror="document.title='broken'">`
	var hostile []cluster.Relay
	for i := range 250 {
		hostile = append(hostile, example(i, func(r *cluster.Relay) {
			r.Name = fmt.Sprintf("%s%03d", markup, i)
			r.Incarnation, r.Region, r.Version, r.Refuses = r.Name, markup, markup, markup
			r.Failed = map[string]string{fmt.Sprintf("%s%03d", markup, (i+1)%250): markup}
		}))
	}
	// show waits until the server has a state, and opens the page again, which would update only after ten seconds.
	show := func(condition string) {
		t.Helper()
		v.wait(t, fmt.Sprintf(`(fetch("cluster/state").then((r) => r.json()).then((s) => { window.reached = %s }), window.reached)`, condition))
		v.visit(t, pageURL+"cluster")
	}
	others.relays <- hostile
	show("s.relayCount === 251")
	v.wait(t, `document.querySelectorAll("#relays tr").length === 200 && document.getElementById("relays-note").textContent.startsWith("200 of 251 relays")`)
	if got := v.text(t, `document.querySelectorAll("#relays img").length + document.title`); got != "0Cluster · mailturn" {
		t.Errorf("markup was not shown as text: %s", got)
	}

	others.stop()
	server.Kill()
	show("s.outages.length > 0 && s.relayCount === 0")
	v.wait(t, `document.getElementById("headline").textContent === "Not everything is shared" && document.getElementById("outages").textContent.includes("Redis has been unusable since")`)
	v.look(t, "cluster-without-redis", 1360, false)
	if problems := v.Problems(); len(problems) > 0 {
		t.Errorf("chromium complains:\n%s", strings.Join(problems, "\n"))
	}
}
