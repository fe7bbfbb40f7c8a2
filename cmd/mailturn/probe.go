package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/probe"
	"github.com/mailturn/mailturn/framework/resolver"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// Environment variables of probe: the password, or an OAuth 2.0 access token instead.
const (
	passwordVariable = "MAILTURN_PASSWORD"
	tokenVariable    = "MAILTURN_TOKEN"
)

// maxSecretFile bounds the files that hold one line.
const maxSecretFile = 64 << 10

// probeFlags are the flags of the command.
type probeFlags struct {
	username, secretFile           string
	passwordFile, tokenFile        string
	dns, ca                        string
	json, quick, thorough, verbose bool
	repeat                         time.Duration

	load      int // allocations; 0 for no load
	pps, size int
	duration  time.Duration
	mine      bool
}

// loadFlags are those that only go with --load.
var loadFlags = []string{"pps", "size", "duration", "i-own-this-server"}

func newProbeCommand() *cobra.Command {
	var flags probeFlags
	cmd := &cobra.Command{
		Use:   "probe TARGET",
		Short: "Check whether a call would connect, and if not, say why",
		Long: `probe does what a client does: it resolves the names, asks the IMAP server for the relay as
Delta Chat does, parses the answer as it does, relays through every address over UDP, TCP and TLS,
and tries what a relay must refuse. TARGET is one of

  imaps://USER@HOST[:PORT]             an IMAP server; write the @ of USER as %40
  imap://USER@HOST[:PORT]              the same with STARTTLS
  turn:HOST[:PORT][?transport=udp|tcp] a relay, with --secret-file or --username
  turns:HOST[:PORT]                    a relay over TLS
  HOST:PORT:EXPIRY:PASSWORD            a metadata line as clients get it

The password comes from --password-file, from ` + passwordVariable + `, or from a prompt. For IMAP, an
OAuth 2.0 access token can replace it: --token-file, or ` + tokenVariable + `. Exit status: 0 if a call
would connect, 1 if not or if strangers can use the relay, 2 for a usage error. With --load, it is 1
if nothing came back.`,
		Args: oneArgument("TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := probe.ParseTarget(args[0])
			if err == nil {
				err = flags.check(cmd, target)
			}
			options := probe.Options{Target: target, Username: flags.username, Depth: flags.depth(), KernelPaths: kernelPaths}
			if err == nil {
				err = flags.read(cmd, &options)
			}
			if err != nil {
				return err // of usage: whoever watches a server by the exit status shall not take a file that is missing for its fault
			}
			return action(func(cmd *cobra.Command, _ []string) error { return runProbe(cmd, options, flags) })(cmd, args)
		},
	}
	cmd.Flags().StringVar(&flags.username, "username", "", "user `name` for a turn: target")
	cmd.Flags().StringVar(&flags.passwordFile, "password-file", "", "`file` with the password; a line break at its end is ignored")
	cmd.Flags().StringVar(&flags.tokenFile, "token-file", "", "`file` with an OAuth 2.0 access token for an imap: or imaps: target, in place of a password")
	cmd.Flags().StringVar(&flags.secretFile, "secret-file", "", "`file` with the relay's secret, to issue a credential for a turn: target")
	cmd.Flags().StringVar(&flags.dns, "dns", "", "DNS server to query, `ADDRESS[:PORT]`, instead of the system's configuration and the hosts file")
	cmd.Flags().StringVar(&flags.ca, "ca", "", "PEM `file` of authorities to trust instead of the system's")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print the report as JSON (docs/probe.md)")
	cmd.Flags().BoolVar(&flags.quick, "quick", false, "try only UDP, with few packets, and nothing that a relay must refuse")
	cmd.Flags().BoolVar(&flags.thorough, "thorough", false, "send ten times as many packets, with longer timeouts for slow links")
	cmd.Flags().BoolVarP(&flags.verbose, "verbose", "v", false, "also show notes and skipped checks")
	cmd.Flags().DurationVar(&flags.repeat, "repeat", 0, "probe again at this `interval` until interrupted")
	cmd.Flags().IntVar(&flags.load, "load", 0, "put load on the relay with this number of `allocations`, half of which send, instead of examining it")
	cmd.Flags().IntVar(&flags.pps, "pps", 50, "packets per second from each sender")
	cmd.Flags().IntVar(&flags.size, "size", 160, "`bytes` of each packet")
	cmd.Flags().DurationVar(&flags.duration, "duration", 10*time.Second, "how long to send")
	cmd.Flags().BoolVar(&flags.mine, "i-own-this-server", false, "allow load on a relay that is neither on loopback nor in a private network")
	return cmd
}

// check returns an error for flags that do not apply to the target.
func (f *probeFlags) check(cmd *cobra.Command, target probe.Target) error {
	err := cmp.Or(
		exclusive(cmd, "quick", "thorough", "load"),
		exclusive(cmd, "repeat", "load"),
		exclusive(cmd, "secret-file", "password-file", "token-file"))
	switch {
	case err != nil:
		return err
	case target.Kind != probe.TURN && (f.username != "" || f.secretFile != ""):
		return errors.New("--username and --secret-file are for turn: and turns: targets")
	case target.Kind != probe.IMAP && f.tokenFile != "":
		return errors.New("--token-file is for imap: and imaps: targets")
	case target.Kind == probe.TURN && f.username == "" && f.secretFile == "":
		return errors.New("a turn: target needs --secret-file, or --username with a password")
	case target.Kind == probe.Line && f.passwordFile != "":
		return errors.New("a metadata line contains its password: --password-file is for other targets")
	case f.repeat < 0:
		return errors.New("--repeat is negative")
	case f.load != 0:
		return f.loadOptions().Check()
	}
	for _, name := range loadFlags {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s requires --load", name)
		}
	}
	return nil
}

// exclusive returns an error if more than one of the flags was given. That of cobra's MarkFlagsMutuallyExclusive speaks of groups.
func exclusive(cmd *cobra.Command, names ...string) error {
	first := ""
	for _, name := range names {
		switch {
		case !cmd.Flags().Changed(name):
		case first == "":
			first = name
		default:
			return fmt.Errorf("--%s cannot be combined with --%s", first, name)
		}
	}
	return nil
}

func (f *probeFlags) loadOptions() probe.LoadOptions {
	return probe.LoadOptions{Allocations: f.load, PPS: f.pps, Size: f.size, Duration: f.duration, AnyTarget: f.mine}
}

func (f *probeFlags) depth() probe.Depth {
	switch {
	case f.quick:
		return probe.Quick
	case f.thorough:
		return probe.Thorough
	}
	return probe.Normal
}

func runProbe(cmd *cobra.Command, options probe.Options, flags probeFlags) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt does not wait for allocations to be given back
	var status progress
	if terminal(cmd.ErrOrStderr()) {
		status.w = cmd.ErrOrStderr()
		options.Progress = status.show
	}
	if flags.load != 0 {
		return flags.runLoad(ctx, cmd, options, &status)
	}
	for {
		report := probe.Run(ctx, options)
		status.clear()
		if ctx.Err() != nil { // what it found then is only that it was interrupted
			return flags.interrupted()
		}
		if err := flags.print(cmd.OutOrStdout(), report); err != nil {
			return err
		}
		if flags.repeat == 0 {
			if report.ExitStatus() != 0 {
				return errReported
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(flags.repeat):
		}
		if !flags.json {
			fmt.Fprintln(cmd.OutOrStdout())
		}
	}
}

// kernelPaths asks the service of this machine over its control socket. It returns nothing if there is none, or if the caller may not.
func kernelPaths(ctx context.Context) (paths []probe.KernelPath) {
	var report statusReport
	client, err := new(ctl).client(io.Discard)
	if err != nil || client.Call(ctx, http.MethodGet, "/v1/status", nil, &report) != nil {
		return nil
	}
	for _, e := range report.Endpoints {
		if e.Relay != nil {
			paths = append(paths, probe.KernelPath{Endpoint: e.Name, Used: e.Relay.KernelPath, Problem: printable(e.Relay.KernelProblem)})
		}
	}
	return paths
}

// interrupted returns the error of an interrupted command: none if it would have run forever.
func (f *probeFlags) interrupted() error {
	if f.repeat > 0 {
		return nil
	}
	return errors.New("interrupted")
}

// runLoad puts a load on the relay instead of examining it.
func (f *probeFlags) runLoad(ctx context.Context, cmd *cobra.Command, options probe.Options, status *progress) error {
	l := f.loadOptions()
	if status.w != nil {
		l.Progress = func(sent, received int64) { status.show(fmt.Sprintf("%d sent, %d back", sent, received)) }
	}
	result, report, err := probe.Load(ctx, options, l)
	status.clear()
	switch {
	case err != nil && ctx.Err() != nil:
		return f.interrupted()
	case err != nil:
		return err
	case report != nil: // no relay was found
		return errors.Join(f.print(cmd.OutOrStdout(), report), errReported)
	}
	if err := f.printLoad(cmd.OutOrStdout(), result); err != nil {
		return err
	}
	if result.Received == 0 {
		return errReported
	}
	return nil
}

// printLoad writes the result of a load.
func (f *probeFlags) printLoad(w io.Writer, result *probe.LoadReport) error {
	if !f.json {
		return result.WriteText(w)
	}
	return writeJSON(w, result, true)
}

// print writes one report.
func (f *probeFlags) print(w io.Writer, report *probe.Report) error {
	if !f.json {
		_, quiet := os.LookupEnv("NO_COLOR")
		return report.WriteText(w, terminal(w) && !quiet, f.verbose)
	}
	return writeJSON(w, report, f.repeat == 0) // repeated reports are a line each, as programs read them
}

// read reads the secrets from files, the environment and the terminal.
func (f *probeFlags) read(cmd *cobra.Command, options *probe.Options) (err error) {
	if f.dns != "" {
		options.Resolver, err = resolver.At(f.dns)
	} else {
		options.Resolver, err = resolver.System()
	}
	if err != nil {
		return err
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return err
		}
		options.Roots = x509.NewCertPool()
		if !options.Roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s contains no certificate in PEM form", f.ca)
		}
	}
	if f.secretFile != "" {
		text, err := readLine(f.secretFile)
		if err != nil {
			return err
		}
		options.Secret = credential.NewSecret([]byte(text))
		return nil
	}
	if options.Target.Kind == probe.Line {
		return nil
	}
	if options.Target.Kind == probe.IMAP {
		if options.Token, err = f.token(); err != nil || options.Token != "" {
			return err
		}
	}
	options.Password, err = f.password(cmd, options.Target)
	return err
}

// token returns the access token, empty if a password is to be used.
func (f *probeFlags) token() (string, error) {
	switch {
	case f.tokenFile != "":
		return readLine(f.tokenFile)
	case f.passwordFile != "":
		return "", nil
	}
	return os.Getenv(tokenVariable), nil
}

func (f *probeFlags) password(cmd *cobra.Command, target probe.Target) (string, error) {
	if f.passwordFile != "" {
		return readLine(f.passwordFile)
	}
	if password, ok := os.LookupEnv(passwordVariable); ok {
		return password, nil
	}
	stdin, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(stdin.Fd())) {
		return "", fmt.Errorf("no password: use --password-file or %s (there is no terminal to prompt on)", passwordVariable)
	}
	return askPassword(stdin, cmd.ErrOrStderr(), fmt.Sprintf("Password for %s: ", target))
}

// readLine reads a small file and removes a line break at its end, which editors add.
func readLine(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxSecretFile:
		return "", fmt.Errorf("%s: more than %d bytes", name, maxSecretFile)
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if line == "" {
		return "", fmt.Errorf("%s is empty", name)
	}
	return line, nil
}

// terminal reports whether w is a terminal.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// progress keeps one line of a terminal up to date. The zero progress shows nothing.
type progress struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

const clearLine = "\r\x1b[K"

func (p *progress) show(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%s%.78s …", clearLine, what)
}

func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil {
		fmt.Fprint(p.w, clearLine)
	}
}
