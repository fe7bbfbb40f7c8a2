package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/framework/cluster"
)

// rejoinLimit is how long this machine may take after its own upgrade until it sees all relays again.
const rejoinLimit = 20 * time.Second

// clusterUpgraded is the output of mailturn upgrade --cluster as JSON.
type clusterUpgraded struct {
	Others []remoteUpgraded `json:"others"`
	Here   handedOver       `json:"here"`
}

// upgradeCluster upgrades the relays of the cluster one after the other, and this machine last. It stops at the first that fails.
func (c *ctl) upgradeCluster(cmd *cobra.Command) error {
	var before clusterReport
	if err := c.ask(cmd, http.MethodGet, "/v1/cluster", nil, &before); err != nil {
		return err
	}
	if err := before.ready(); err != nil {
		return err
	}
	progress := io.Discard
	if !c.asJSON {
		progress = cmd.OutOrStdout()
	}
	done := clusterUpgraded{Others: []remoteUpgraded{}} // not null
	for _, relay := range before.Relays {
		if relay.Incarnation == before.Incarnation {
			continue
		}
		var one remoteUpgraded
		if err := c.ask(cmd, http.MethodPost, "/v1/cluster/upgrade", remoteUpgrade{relay.Name}, &one); err != nil {
			return fmt.Errorf("%w\nUpgraded before: %s. Every other machine was left as it was", err, done.names())
		}
		fmt.Fprintf(progress, "%s: upgraded from %s to %s, and probed.\n", printable(one.Name), printable(one.Former), printable(one.Version))
		done.Others = append(done.Others, one)
	}
	if err := c.ask(cmd, http.MethodPost, "/v1/upgrade", nil, &done.Here); err != nil {
		return fmt.Errorf("this machine: %w\nUpgraded before: %s", err, done.names())
	}
	if err := c.awaitCluster(cmd, len(before.Relays)); err != nil {
		return fmt.Errorf("this machine was upgraded to %s, but %w", done.Here.Version, err)
	}
	if c.asJSON {
		return writeJSON(cmd.OutOrStdout(), done, true)
	}
	before.upgradedHere(progress, done.Here)
	return nil
}

// upgradedHere prints the result on this machine, like those of others if it has a relay.
func (r clusterReport) upgradedHere(w io.Writer, done handedOver) {
	own := slices.IndexFunc(r.Relays, func(relay cluster.Relay) bool { return relay.Incarnation == r.Incarnation })
	if own < 0 {
		done.writeTo(w)
		return
	}
	fmt.Fprintf(w, "%s: upgraded from %s to %s. Allocations that were passed on: %d.\n", printable(r.Relays[own].Name),
		printable(r.Relays[own].Version), printable(done.Version), done.Allocations)
}

// names lists the machines that were upgraded.
func (u clusterUpgraded) names() string {
	var names []string
	for _, one := range u.Others {
		names = append(names, printable(one.Name))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// ready returns an error if the cluster has a problem already, which an upgrade would be blamed for.
func (r clusterReport) ready() error {
	if r.Error != "" {
		return fmt.Errorf("nothing was upgraded, because Redis cannot be used: %s", printable(r.Error))
	}
	for _, relay := range r.Relays {
		if state := stateOf(relay); state == "unreachable" || state == "not_ready" {
			return fmt.Errorf("nothing was upgraded, because %s is %s: see mailturn ctl cluster", printable(relay.Name), strings.ReplaceAll(state, "_", " "))
		}
		if len(relay.FailedBy) > 0 { // with one reporter, it still gets calls
			return fmt.Errorf("nothing was upgraded, because %s cannot be reached from %s", printable(relay.Name), printable(relay.FailedBy[0]))
		}
	}
	if len(r.NoSecret) > 0 {
		return fmt.Errorf("nothing was upgraded, because %s accepts no secret of this machine's configuration", printable(r.NoSecret[0]))
	}
	return nil
}

// awaitCluster waits until this machine sees as many relays as before, and its own one accepts calls if it has one.
func (c *ctl) awaitCluster(cmd *cobra.Command, want int) error {
	deadline := time.Now().Add(rejoinLimit)
	poll := time.NewTicker(remoteUpgradePoll)
	defer poll.Stop()
	for {
		var now clusterReport
		err := c.ask(cmd, http.MethodGet, "/v1/cluster", nil, &now)
		if err == nil {
			err = now.complete(want)
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-poll.C:
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		}
	}
}

// complete returns an error unless so many relays are alive, and that of this machine is ready.
func (r clusterReport) complete(want int) error {
	if r.Error != "" {
		return errors.New("cannot use Redis: " + printable(r.Error))
	}
	if len(r.Relays) < want {
		return fmt.Errorf("sees only %d relays of %d", len(r.Relays), want)
	}
	for _, relay := range r.Relays {
		if relay.Incarnation == r.Incarnation && relay.Refuses != "" && relay.Refuses != cluster.Draining {
			return errors.New("its relay is " + printable(relay.Refuses))
		}
	}
	return nil
}
