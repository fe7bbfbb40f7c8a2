package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/rotation"
	"github.com/mailturn/mailturn/endpoint/http/page"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestClusterReport checks what operators are told about relays that are alive and cannot be used.
func TestClusterReport(t *testing.T) {
	secret := credential.NewSecret([]byte("correct horse battery staple"))
	good := cluster.Relay{Name: "one", Version: "v1", Incarnation: "a", Secrets: []string{cluster.SecretID(secret.Bytes())}}
	other := cluster.Relay{Name: "two", Version: "v1", Incarnation: "b", Secrets: []string{"another"}}
	failing := good
	failing.Name, failing.Incarnation, failing.FailedBy = "three", "c", []string{"one: UDP port 3478: no answer"}
	var m member
	m.secrets.Store(&[]credential.Secret{secret})

	if err := (clusterReport{Relays: []cluster.Relay{good}}).ready(); err != nil {
		t.Error(err)
	}
	var printed strings.Builder
	report := clusterReport{Incarnation: "a", Relays: []cluster.Relay{good, other}}
	report.NoSecret = m.strangers(report.Relays)
	report.writeTo(&printed)
	if !strings.Contains(printed.String(), "two accepts no secret of this machine") || strings.Contains(printed.String(), "one accepts no") {
		t.Errorf("got %s", &printed)
	}
	if err := report.ready(); err == nil || !strings.Contains(err.Error(), "two accepts no secret of this machine") {
		t.Errorf("with another secret: %v", err)
	}
	if err := (clusterReport{Relays: []cluster.Relay{good, failing}}).ready(); err == nil || !strings.Contains(err.Error(), "three cannot be reached from one: UDP") {
		t.Errorf("with a relay that one other cannot reach: %v", err)
	}
	printed.Reset()
	report.upgradedHere(&printed, handedOver{Version: "v2"})
	if !strings.HasPrefix(printed.String(), "one: upgraded from v1 to v2.") {
		t.Errorf("got %s", &printed)
	}
}

// TestPageAfterRotation checks that a relay with the same secrets is not said to accept others because one was made for all machines.
func TestPageAfterRotation(t *testing.T) {
	file, diags := config.Parse("maddy.conf", []byte("cluster {\n redis = [\"rediss://localhost\"]\n key = \""+strings.Repeat("k", 32)+"\"\n}"))
	settings, more := cluster.Decode(file.Cluster)
	if diags = append(diags, more...); diags.HasErrors() {
		t.Fatal(diags)
	}
	secret := credential.NewSecret([]byte("correct horse battery staple"))
	m := member{relay: struct{ controllable }{}, keeper: rotation.New(rotation.Config{
		Cluster: settings, Changed: func() {}, Publish: func(context.Context, ...cluster.Entry) error { return nil }, Logger: slog.New(slog.DiscardHandler),
	})}
	m.secrets.Store(&[]credential.Secret{secret})
	m.fixed.Store(&cluster.Relay{Name: "one", Secrets: []string{cluster.SecretID(secret.Bytes())}})
	before := *m.own()
	if _, _, err := m.keeper.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.sharedSecrets(*m.own()); got != page.SameSecrets {
		t.Errorf("a relay with the same secrets: %s", got)
	}
	different := *m.own()
	different.Secrets = slices.Concat(m.keeper.Announced(), []string{"that of another file"})
	if names := m.strangers([]cluster.Relay{*m.own(), different}); len(names) != 1 {
		t.Errorf("relays with another secret in their configuration, and the same new one: %q", names)
	}
	if got := m.sharedSecrets(before); got != page.DifferentSecrets {
		t.Errorf("a relay without the new secret: %s", got)
	}
}

// TestClusterOutages checks that ctl cluster says what Redis does not do, and does not take a refused permission for a Redis that does not answer.
func TestClusterOutages(t *testing.T) {
	since := time.Date(2026, 11, 30, 19, 28, 0, 0, time.Local)
	for want, outage := range map[string]outageReport{
		"Redis has been unusable since 2026-11-30 19:28:00: connection refused.":                       {cluster.Announcements, since, false, "connection refused"},
		"Redis has refused what announcements need since 2026-11-30 19:28:00: may not run ZADD.":       {cluster.Announcements, since, true, "may not run ZADD"},
		"Redis has refused what bans and names need since 2026-11-30 19:28:00: may not\\x1b run XADD.": {cluster.BansAndNames, since, true, "may not\x1b run XADD"},
		"Redis has not shared limits since 2026-11-30 19:28:00: OOM.":                                  {cluster.SharedLimits, since, false, "OOM"},
	} {
		var printed strings.Builder
		clusterReport{Outages: []outageReport{outage}}.writeTo(&printed)
		if got, _, _ := strings.Cut(printed.String(), "\n"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// replyError is an error that Redis has sent.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

// TestUntold checks that a refused permission is not taken for a Redis that does not answer.
func TestUntold(t *testing.T) {
	refused := fmt.Errorf("publish: %w", replyError("NOPERM this user has no permissions to run the 'xadd' command"))
	if got := untold(refused, "later."); !strings.HasPrefix(got, "Redis refuses (publish: NOPERM this user") {
		t.Errorf("got %s", got)
	}
	if got := untold(io.ErrUnexpectedEOF, "later."); got != "Redis cannot be used: later." {
		t.Errorf("got %s", got)
	}
}
