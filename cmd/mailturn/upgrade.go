package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/framework/control"
)

// upgrade answers POST /v1/upgrade.
func (o *operators) upgrade(_ http.ResponseWriter, r *http.Request) (any, error) {
	o.changed(r, "upgrade requested")
	done, err := o.upgradeNow(r.Context())
	if err != nil {
		return nil, err
	}
	return done, nil
}

// upgradeNow has another process serve.
func (o *operators) upgradeNow(ctx context.Context) (done handedOver, err error) {
	if o.upgradeService == nil {
		return done, control.Errorf(http.StatusConflict, "this mailturn runs without a configuration file, and cannot be upgraded: restart it")
	}
	var failure error
	err = o.do(ctx, func() {
		if o.service.stopping {
			failure = control.Errorf(http.StatusServiceUnavailable, "mailturn is stopping")
			return
		}
		if done, failure = o.upgradeService(); failure != nil {
			failure = control.Errorf(http.StatusConflict, "not upgraded, the running process continues: %v", failure)
		}
	})
	return done, errors.Join(err, failure)
}

// newUpgradeCommand returns the command that asks a running mailturn for an upgrade.
func newUpgradeCommand() *cobra.Command {
	var c ctl
	var all bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the running mailturn with the installed version, without ending calls",
		Long: `upgrade makes the running mailturn start the program that is installed now, with the same
configuration, and pass it all listening sockets, and all calls over UDP, TCP and DTLS. Calls are
interrupted for some milliseconds, and no packet is lost. Calls over TLS end, and clients connect
them again. IMAP connections end one after the other, within upgrade_timeout.

If the new program does not start, or does not accept the configuration, the running process
continues, and the exit status is 1. SIGUSR2 does the same, and so does SIGHUP after the program was
replaced. It requires Linux, and is not possible with engine = "pion".

With --cluster, it first asks the other machines of the cluster that have a relay, one after the
other, to start the program that is installed there, and upgrades this machine last. After each
upgrade, it allocates on the relay over every transport. It stops at the first machine that fails.
Install the new version on all machines before. A machine whose cluster block has
allow_upgrade = false refuses.`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if all {
				return c.upgradeCluster(cmd)
			}
			var done handedOver
			return c.call(cmd, http.MethodPost, "/v1/upgrade", nil, &done, func(w io.Writer) { done.writeTo(w) })
		}),
	}
	cmd.Flags().BoolVar(&all, "cluster", false, "upgrade all relays of the cluster, one after the other")
	c.flags(cmd)
	return cmd
}

// writeTo prints the result for people.
func (h handedOver) writeTo(w io.Writer) {
	fmt.Fprintf(w, "Upgraded to %s, pid %d: %d allocations were passed on, and interrupted for %v.\n", h.Version, h.PID,
		h.Allocations, time.Duration(h.InterruptedMS*float64(time.Millisecond)).Round(100*time.Microsecond))
}
