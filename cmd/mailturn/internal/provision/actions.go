package provision

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// An Action is what a step does after its files are written: it runs a command, or checks or waits for something.
type Action struct {
	Text string // for people: a command, or what is checked
	// Undo is the command that undoes the action. It runs before the files of the step are restored. Empty if there is nothing to undo.
	Undo []string
	do   func(ctx context.Context, m *Machine) error
}

// undoneBy returns the action with the command that undoes it.
func (a Action) undoneBy(argv ...string) Action {
	a.Undo = argv
	return a
}

// How long setup waits for what it has started.
const (
	greetingPatience   = 2 * time.Minute // an authority may take most of it to issue a certificate
	allocationPatience = 20 * time.Second
	retryInterval      = 200 * time.Millisecond
)

// withLog adds the end of mailturn's log to an error.
func withLog(ctx context.Context, m *Machine, err error) error {
	log, _ := m.run(context.WithoutCancel(ctx), "journalctl", "--unit="+unitName, "--boot", "--lines=8", "--output=cat", "--no-pager")
	if log == "" {
		return err
	}
	return fmt.Errorf("%w\nThe log of mailturn ends with\n%s", err, indent(log))
}

// run returns an action that runs a command.
func run(argv ...string) Action {
	return Action{Text: strings.Join(argv, " "), do: func(ctx context.Context, m *Machine) error { return m.command(ctx, argv) }}
}

// checkConfig returns an action that checks mailturn's configuration.
func checkConfig() Action {
	return Action{Text: "mailturn check-config " + ConfigFile, do: func(ctx context.Context, m *Machine) error {
		return m.command(ctx, []string{m.Mailturn, "check-config", ConfigFile})
	}}
}

// checkDovecot returns an action that checks Dovecot's configuration: see Machine.checkDovecot.
func checkDovecot(internal uint16, off []DovecotListener) Action {
	return Action{Text: "doveconf -n, and check that the listeners are as planned", do: func(ctx context.Context, m *Machine) error {
		return m.checkDovecot(ctx, internal, off)
	}}
}

// awaitGreeting returns an action that waits until an IMAP server greets, with a certificate for serverName unless that is empty.
func awaitGreeting(g Greeting, serverName string) Action {
	text := "wait for the greeting at " + g.Address
	if g.TLS {
		text += " over TLS"
	}
	return Action{Text: text, do: func(ctx context.Context, m *Machine) error {
		ofMailturn := serverName != ""
		err := retry(ctx, greetingPatience, func() error {
			err := m.Greeting(ctx, g.Address, g.TLS, serverName)
			if err == nil || !ofMailturn {
				return err
			}
			switch m.state(ctx, unitName, "ActiveState") {
			case "failed", "inactive": // not "reloading", which it is for a moment
				return stopRetrying{fmt.Errorf("mailturn has stopped: %w", err)}
			}
			return err
		})
		if err != nil && ofMailturn {
			return withLog(ctx, m, err)
		}
		return err
	}}
}

// awaitAllocation returns an action that waits until the relay allocates a relayed address.
func awaitAllocation(address netip.AddrPort) Action {
	return Action{Text: fmt.Sprintf("request a relayed address at %v with a credential made from its secret", address), do: func(ctx context.Context, m *Machine) error {
		err := retry(ctx, allocationPatience, func() error { return m.Allocation(ctx, address, m.path(SecretFile)) })
		if err != nil {
			return withLog(ctx, m, err)
		}
		return nil
	}}
}

// stopRetrying is an error after which retrying is useless.
type stopRetrying struct{ error }

func (e stopRetrying) Unwrap() error { return e.error }

// retry calls f until it succeeds, or patience or ctx ends. It returns the last error.
func retry(ctx context.Context, patience time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if _, stop := errors.AsType[stopRetrying](err); err == nil || stop {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (after %v)", err, patience)
		case <-time.After(retryInterval):
		}
	}
}
