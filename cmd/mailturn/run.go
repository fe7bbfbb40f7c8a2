package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/framework/module"
)

// drainReserve is what the endpoints get on top of the longest drain_timeout to end what has not ended by itself.
const drainReserve = 5 * time.Second

func newRunCommand() *cobra.Command {
	var configFile, stateDir string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve",
		Long: `run serves until it is interrupted (SIGINT, SIGTERM). It then refuses new calls and lets
running ones go on for drain_timeout; a second interrupt ends it at once.

Without --config it serves on loopback only, on ports that need no root, with a self-signed
certificate, a generated secret and one demo account, and prints how to check it.`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if configFile == "" {
				return runDefault(cmd.Context(), stateDir, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			s, err := load(configFile, stateDir, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return s.serve(cmd.Context(), cmd.ErrOrStderr(), nil)
		}),
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration `file`, in HCL or in maddy's directives")
	cmd.Flags().StringVar(&stateDir, "state-dir", "", "`directory` for the generated secret and certificate (default: state_dir of the configuration)")
	return cmd
}

// serve runs the endpoints until ctx is done or the process is interrupted. ready, if not nil, is called when all of them
// listen.
func (s *setup) serve(ctx context.Context, stderr io.Writer, ready func()) error {
	logger, err := log.New(stderr, s.log.Level.V, s.log.Format.V)
	if err != nil {
		return err
	}
	made, err := s.prepare(time.Now())
	if err != nil {
		return err
	}
	if len(made) > 0 {
		logger.Info("made what the configuration leaves out", "made", strings.Join(made, ", "), "state_dir", s.stateDir)
	}
	group, err := s.endpoints(logger)
	if err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := group.Start(ctx); err != nil {
		return err
	}
	if ready != nil {
		ready()
	}
	logger.Info("ready")
	<-ctx.Done()
	stop() // a second interrupt ends the process as the system does
	drain := s.drainTimeout()
	logger.Info("draining", "drain_timeout", drain)
	ctx, cancel := context.WithTimeout(context.Background(), drain+drainReserve)
	defer cancel()
	if err := group.Shutdown(ctx); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// endpoints builds the endpoints: the relay first, so that nobody is told of one that is not there yet.
func (s *setup) endpoints(logger *slog.Logger) (*module.Group, error) {
	group := new(module.Group)
	for _, c := range s.relays {
		name := fmt.Sprintf("endpoint turn %q", c.Name)
		endpoint, err := turn.New(c, logger.With("endpoint", c.Name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		group.Add(name, endpoint)
	}
	for _, c := range s.imaps {
		name := fmt.Sprintf("endpoint imap %q", c.Name)
		endpoint, err := imap.New(c, logger.With("endpoint", c.Name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		group.Add(name, endpoint)
	}
	return group, nil
}

func (s *setup) drainTimeout() time.Duration {
	var longest time.Duration
	for _, relay := range s.relays {
		longest = max(longest, relay.DrainTimeout)
	}
	return longest
}
