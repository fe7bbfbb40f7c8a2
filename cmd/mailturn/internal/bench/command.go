// Package bench measures what mailturn costs in front of Dovecot, next to nginx, HAProxy and a forwarder in Go without a filter in
// front of the same Dovecot, and Dovecot without a proxy:
//
//	go run ./cmd/mailturn/internal/bench/main.go
//
// and what TURN costs, next to coturn and pion's server (package turn):
//
//	go run ./cmd/mailturn/internal/bench/main.go turn
//
// It requires Linux and Debian's packages dovecot-imapd, nginx-light, libnginx-mod-stream, libnginx-mod-mail and haproxy, or
// coturn, and runs everything on loopback. Figures are medians of runs that take turns. CPU time includes only the proxy's processes, or all of
// Dovecot's without a proxy. Memory is the growth of the resident memory of the proxy's processes since their start, without the
// kernel's buffers; it is measured after they have had time to release unused memory.
package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/turn"
)

type options struct {
	key      string
	idle     int
	idleRuns int
	settle   time.Duration
	runs     int
	logins   int
	trips    int
	fetch    int
	only     string
	besides  string
}

// Main runs the command with its arguments, the first of which may say what to measure.
func Main(ctx context.Context, args []string) error {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "turn":
		return turnMain(ctx, false, args[1:])
	case turn.Inside:
		return turnMain(ctx, true, args[1:])
	case "forward":
		return forward(ctx, args[1:])
	case "pion":
		return turn.Pion(args[1:])
	default:
		return imapMain(ctx, args)
	}
}

// turnMain runs the command "turn".
func turnMain(ctx context.Context, inside bool, args []string) error {
	dir, err := os.MkdirTemp("", "mailturn-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	certificate, err := makeCertificate(dir, "ecdsa")
	if err != nil {
		return err
	}
	build := func(ctx context.Context) (string, error) { return buildMailturn(ctx, dir) }
	return turn.Main(ctx, inside, args, dir, certificate.certFile, certificate.keyFile, build)
}

// imapMain runs the command without a name.
func imapMain(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&o.key, "key", "ecdsa", "key of the certificate, `ecdsa` (P-256) or rsa (2048 bits)")
	flags.IntVar(&o.idle, "idle", 5000, "idle connections; 0 leaves this out")
	flags.IntVar(&o.idleRuns, "idle-runs", 3, "runs with idle connections, each with servers just started")
	flags.DurationVar(&o.settle, "settle", 30*time.Second, "how long they are left alone before memory is counted")
	flags.IntVar(&o.runs, "runs", 5, "runs of each other measurement")
	flags.IntVar(&o.logins, "logins", 100, "logins in a run; 0 leaves this out")
	flags.IntVar(&o.trips, "trips", 2000, "round trips in a run; 0 leaves this out")
	flags.IntVar(&o.fetch, "fetch", 100, "size in MB of the message that is fetched; 0 leaves this out")
	flags.StringVar(&o.only, "only", "", "a comma-separated list of servers: mailturn, Go forwarder, nginx stream, nginx mail, HAProxy, Dovecot")
	flags.StringVar(&o.besides, "beside", "", "a comma-separated list of other `programs` mailturn, such as one built before a change, to be measured too")
	flags.Parse(args)
	return run(ctx, o)
}

func run(ctx context.Context, o options) (err error) {
	for _, program := range []string{"dovecot", "nginx", "haproxy"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "mailturn-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	certificate, err := makeCertificate(dir, o.key)
	if err != nil {
		return err
	}
	binary, err := buildMailturn(ctx, dir)
	if err != nil {
		return err
	}
	measured := proxies(binary, strings.FieldsFunc(o.besides, func(c rune) bool { return c == ',' }))
	b := bench{options: o, roots: certificate.roots, table: report.Table{Title: o.key, Columns: columns, Reference: nginxStream}}
	if o.logins+o.trips+o.fetch > 0 {
		if err := b.withServers(ctx, dir, measured, certificate, b.measure); err != nil {
			return err
		}
	}
	if o.idle > 0 {
		for i := range o.idleRuns {
			fmt.Fprintf(os.Stderr, "%d idle connections, run %d of %d\n", o.idle, i+1, o.idleRuns)
			if err := b.withServers(ctx, dir, measured, certificate, b.idles); err != nil {
				return err
			}
		}
	}
	b.table.Print(os.Stdout)
	fmt.Println()
	b.table.PrintGoals(os.Stdout, goals)
	return nil
}

// withServers runs f while the servers run.
func (b *bench) withServers(ctx context.Context, dir string, proxies []proxy, c certificate, f func(context.Context) error) (err error) {
	servers, logs, stopAll, err := startServers(ctx, dir, proxies, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAll()) }()
	b.backend = servers[len(servers)-1]
	if b.options.only != "" {
		wanted := strings.Split(b.options.only, ",")
		servers = slices.DeleteFunc(servers, func(s *server) bool { return !slices.Contains(wanted, s.name) })
	}
	b.servers = servers
	b.table.Names = nil
	for _, s := range servers {
		b.table.Names = append(b.table.Names, s.name)
	}
	if err := f(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, logs())
	}
	return nil
}

// buildMailturn builds the program like a release.
func buildMailturn(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "mailturn")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/mailturn/mailturn/cmd/mailturn")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
}
