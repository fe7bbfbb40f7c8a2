package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/framework/control"
)

// upgrade answers POST /v1/upgrade.
func (o *operators) upgrade(_ http.ResponseWriter, r *http.Request) (any, error) {
	if o.upgradeService == nil {
		return nil, control.Errorf(http.StatusConflict, "this mailturn runs without a configuration file, and cannot be upgraded: restart it")
	}
	var done handedOver
	var failure error
	err := o.do(r.Context(), func() {
		if o.service.stopping {
			failure = control.Errorf(http.StatusServiceUnavailable, "mailturn is stopping")
			return
		}
		o.changed(r, "upgrade requested")
		if done, failure = o.upgradeService(); failure != nil {
			failure = control.Errorf(http.StatusConflict, "not upgraded, the running process continues: %v", failure)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case failure != nil:
		return nil, failure
	}
	return done, nil
}

// newUpgradeCommand returns the command that asks a running mailturn for an upgrade.
func newUpgradeCommand() *cobra.Command {
	var c ctl
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the running mailturn with the installed version, without ending calls",
		Long: `upgrade makes the running mailturn start the program that is installed now, with the same
configuration, and pass it all listening sockets, and all calls over UDP and TCP. Calls are
interrupted for some milliseconds, and no packet is lost. Calls over TLS and DTLS end, and clients
connect them again. IMAP connections end one after the other, within upgrade_timeout.

If the new program does not start, or does not accept the configuration, the running process
continues, and the exit status is 1. SIGUSR2 does the same, and so does SIGHUP after the program was
replaced. It requires Linux, and is not possible with engine = "pion".`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var done handedOver
			return c.call(cmd, http.MethodPost, "/v1/upgrade", nil, &done, func(w io.Writer) {
				fmt.Fprintf(w, "Upgraded to %s, pid %d: %d allocations were passed on, and interrupted for %v.\n", done.Version, done.PID,
					done.Allocations, time.Duration(done.InterruptedMS*float64(time.Millisecond)).Round(100*time.Microsecond))
			})
		}),
	}
	c.flags(cmd)
	return cmd
}
