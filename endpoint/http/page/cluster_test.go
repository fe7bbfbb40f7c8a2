package page

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/framework/cluster"
)

// TestClusterPage shows what strangers may have written into Redis, to nobody but the operator, and escaped even in JSON.
func TestClusterPage(t *testing.T) {
	const name = "<script>alert(1)</script>"
	s := newSite(t)
	for _, path := range []string{"/cluster", "/cluster/state"} {
		if w := s.send(t, "GET", path, ""); w.Code != 401 && w.Header().Get("Location") != "./login" {
			t.Errorf("%s before login: %d", path, w.Code)
		}
	}
	s.login(t, testPassword)
	if w := s.wantStatus(t, 200, "GET", "/cluster/state"); w.Body.String() != "null\n" {
		t.Errorf("without a cluster: %s", w.Body)
	}
	if w := s.wantStatus(t, 303, "GET", "/cluster"); w.Header().Get("Location") != "./" {
		t.Errorf("without a cluster: sent to %s", w.Header().Get("Location"))
	}

	well := cluster.Relay{Name: "b", Server: "b.example.org", UDP: []uint16{3478}, Weight: 1, Seen: testNow.Add(-1500 * time.Millisecond), Own: true}
	sick := well
	sick.Name, sick.Own, sick.FailedBy = name, false, []string{"a: 1", "b: " + name, "c: 3", "d: 4"}
	stranger := well
	stranger.Name, stranger.Own = "c", false
	s.cluster = &Cluster{Outages: []string{"Redis refuses " + name}, Relays: []ClusterRelay{
		{well, "serving", SameSecrets}, {stranger, "serving", NoSecrets}, {sick, "unreachable", DifferentSecrets},
	}}
	s.wantStatus(t, 200, "GET", "/cluster")
	w := s.wantStatus(t, 200, "GET", "/cluster/state")
	if strings.Contains(w.Body.String(), "<") {
		t.Errorf("the answer has markup: %s", w.Body)
	}
	var got clusterState
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Relays) != 3 || got.Relays[0].Name != name || got.Relays[1].Name != "c" || got.Relays[2].Name != "b" {
		t.Fatalf("those that get no calls do not come first: %+v", got.Relays)
	}
	if r := got.Relays[0]; len(r.FailedBy) != maxFailuresShown || r.FailedByCount != 4 || r.State != "unreachable" || r.Secrets != DifferentSecrets {
		t.Errorf("got %+v", r)
	}
	if r := got.Relays[2]; r.Age != 1.5 || !r.Own || len(r.UDP) != 1 || r.TCP == nil {
		t.Errorf("got %+v", r)
	}
	if got.Answered != 0 || len(got.Outages) != 1 || got.Outages[0] != "Redis refuses "+name {
		t.Errorf("got %+v", got)
	}
}

// TestRelaysShownAreBounded has as many relays as Redis may have, all with what is longest.
func TestRelaysShownAreBounded(t *testing.T) {
	s := newSite(t)
	s.login(t, testPassword)
	s.cluster = &Cluster{}
	long := strings.Repeat("x", 255)
	for i := range 1000 {
		r := cluster.Relay{Name: fmt.Sprintf("%03d%s", i, long[3:]), Server: long, Region: long, Version: long, Weight: 1}
		for range 64 {
			r.UDP = append(r.UDP, 65535)
		}
		for range 1000 {
			r.FailedBy = append(r.FailedBy, long+": "+long)
		}
		s.cluster.Relays = append(s.cluster.Relays, ClusterRelay{r, "unreachable", NoSecrets})
	}
	w := s.wantStatus(t, 200, "GET", "/cluster/state")
	var got clusterState
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Relays) != maxRelaysShown || got.RelayCount != 1000 || w.Body.Len() > 1<<20 {
		t.Errorf("%d of %d relays in %d bytes", len(got.Relays), got.RelayCount, w.Body.Len())
	}
}
