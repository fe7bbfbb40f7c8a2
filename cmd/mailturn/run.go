package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/framework/handoff"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/framework/memory"
	"github.com/mailturn/mailturn/framework/sysctl"
	"github.com/mailturn/mailturn/framework/systemd"
)

// stopReserve is the time that relays get in addition to the longest drain_timeout, and then each other kind of endpoint, to end
// what has not ended by itself.
const stopReserve = 5 * time.Second

func newRunCommand() *cobra.Command {
	var configFile, stateDir string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve a configuration, or a demo on loopback",
		Long: `run serves until it is interrupted (SIGINT, SIGTERM). It then ends all calls; or, if
drain_timeout is set, it refuses new calls and lets running ones continue for up to that time. Mail
is served until the last call has ended. A second interrupt ends the process immediately. SIGHUP
reloads the configuration: sessions and calls continue, and a configuration with errors
changes nothing.

Without --config it serves on loopback only, on unprivileged ports, with a self-signed
certificate, a generated secret and one demo account, and prints how to check it.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && configFile == "" {
				return fmt.Errorf("run takes no arguments: use --config %s", args[0])
			}
			return noArguments(cmd, args)
		},
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if configFile == "" {
				return runDefault(cmd.Context(), stateDir, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			again := func(diagnostics io.Writer) (*setup, error) { return load(configFile, stateDir, diagnostics) }
			s, err := again(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			arguments := []string{"--config", configFile, "--state-dir", stateDir}
			return s.serve(cmd.Context(), cmd.ErrOrStderr(), nil, again, arguments)
		}),
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration `file`, in HCL or in maddy's directives")
	cmd.Flags().StringVar(&stateDir, "state-dir", "", "`directory` for the generated secret and certificate (default: state_dir of the configuration)")
	return cmd
}

// serve runs the endpoints until ctx is done or the process is interrupted. ready, if not nil, is called when all of them
// listen. again reads the configuration when it is reloaded, and writes to diagnostics what is wrong with it; where there is no file
// it is nil, and SIGHUP, which a terminal sends when it is closed, interrupts too. arguments are those of the command run for the
// process that takes over when the program is upgraded; nil if none can.
func (s *setup) serve(ctx context.Context, stderr io.Writer, ready func(), again func(diagnostics io.Writer) (*setup, error), arguments []string) (err error) {
	saver := memory.NewSaver()
	var level slog.LevelVar
	level.Set(s.logLevel)
	logger, err := log.New(forJournal(stderr), &level, s.log.Format.V)
	if err != nil {
		return err
	}
	manager := serviceManager{systemd.Manager{Socket: os.Getenv("NOTIFY_SOCKET")}, logger}
	before, err := findPredecessor()
	if err != nil {
		return fmt.Errorf("follow another process: %w", err)
	}
	sockets := handoff.NewSockets(nil, nil)
	if before != nil {
		sockets = before.sockets
		defer func() {
			if err != nil {
				before.failed(err) // has no effect once this process serves
			}
		}()
	}
	if err = s.prepareAndSay(logger); err != nil {
		return err
	}
	s.checkKernel(sysctl.System(), logger)
	running, err := newService(s, manager.Manager, sockets, before != nil, logger, &level)
	if err != nil {
		return err
	}

	hangups, upgrades := make(chan os.Signal, 1), make(chan os.Signal, 1)
	interrupts := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if again != nil {
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
		notifyUpgrade(upgrades)
		defer signal.Stop(upgrades)
	} else {
		interrupts = append(interrupts, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, interrupts...)
	defer stop()
	reload := func(diagnostics io.Writer) (changes []string, err error) {
		manager.reloading()
		defer func() { manager.ready(running.status()) }()
		return running.reload(func() (*setup, error) { return again(diagnostics) })
	}
	operators := newOperators(running)
	if again != nil {
		operators.reloadService = func(diagnostics io.Writer) ([]string, error) { return reload(io.MultiWriter(stderr, diagnostics)) }
	}
	var gone *handedOver // another process serves
	upgrade := func() (handedOver, error) {
		manager.reloading()
		u := upgrade{running, sockets, arguments, manager.follow, operators.changes, logger}
		done, err := u.run(ctx)
		if err != nil {
			manager.ready(running.status())
			return done, err
		}
		gone = &done
		return done, nil
	}
	if arguments != nil {
		operators.upgradeService = upgrade
	}
	operators.serveCluster()
	s.controlAt.Sockets = sockets
	closeControl, err := operators.listen(ctx, s)
	if err != nil {
		return err
	}
	closeControl = sync.OnceFunc(closeControl)
	defer closeControl()
	s.addProcessors()
	if err = running.start(ctx); err != nil {
		return err
	}
	if before != nil {
		if err = before.takeOver(ctx, running); err != nil {
			return fmt.Errorf("take over calls: %w", err)
		}
	}
	running.begin()
	if ready != nil {
		ready()
	}
	logger.Info("ready", "version", buildInfo().Main.Version)
	manager.ready(running.status())
	looks := time.NewTicker(memory.Interval)
	defer looks.Stop()
	remembers := time.NewTicker(rememberEvery)
	defer remembers.Stop()
	for ctx.Err() == nil && gone == nil {
		select {
		case <-hangups:
			if programReplaced() {
				_, _ = upgrade() // which is in the log
			} else {
				_, _ = reload(stderr)
			}
		case <-upgrades:
			_, _ = upgrade()
		case request := <-operators.requests:
			request()
		case change := <-operators.changes:
			change()
		case <-looks.C:
			saver.GiveBack()
		case <-remembers.C:
			running.rememberBanned()
		case <-ctx.Done():
		}
	}
	if gone != nil {
		closeControl()
		return running.retire(ctx, gone.finish)
	}
	stop() // a second interrupt ends the process as the system does
	drain := running.setup.drainTimeout()
	if drain > 0 {
		logger.Info("draining", "drain_timeout", drain)
	}
	manager.stopping(stoppingStatus(drain), drain+5*stopReserve) // of which shutdown may take four
	running.stopping = true
	ended := make(chan error, 1)
	go func() { ended <- running.shutdown(drain) }()
	for {
		select {
		case request := <-operators.requests: // operators want to see who still talks
			request()
		case change := <-operators.changes:
			change()
		case err := <-ended:
			if err == nil {
				logger.Info("stopped")
			}
			return err
		}
	}
}

// prepareAndSay prepares the setup and fits it to the limits of the process, and logs what was created or changed.
func (s *setup) prepareAndSay(logger *slog.Logger) error {
	if limit, ok := openFilesLimit(); ok {
		s.fitDescriptors(limit, logger)
	}
	made, err := s.prepare(time.Now())
	if err == nil && len(made) > 0 {
		logger.Info("generated what the configuration omits", "made", strings.Join(made, ", "), "state_dir", s.stateDir)
	}
	return err
}

func stoppingStatus(drain time.Duration) string {
	if drain == 0 {
		return "Stopping"
	}
	return fmt.Sprintf("Draining: refusing new calls, running ones may continue for up to %v", drain)
}

func (s *setup) drainTimeout() time.Duration {
	var longest time.Duration
	for _, relay := range s.relays {
		longest = max(longest, relay.DrainTimeout)
	}
	return longest
}

// addProcessors gives the runtime more processors than there are, one for every two workers of a TURN endpoint, because a thread of
// workers occupies one while it waits for packets. It does nothing if the operator has set GOMAXPROCS.
func (s *setup) addProcessors() {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	workers := 0
	for i := range s.relays {
		workers += s.relays[i].WorkerCount()
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + (workers+1)/2)
}
