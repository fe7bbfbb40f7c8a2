// Command bench measures what mailturn costs in front of Dovecot, beside nginx in front of the same Dovecot and Dovecot
// without a proxy:
//
//	go run ./cmd/mailturn/bench
//
// and what TURN allocations cost, beside coturn and a plain server of pion's:
//
//	go run ./cmd/mailturn/bench turn
//
// It needs Linux and Debian's packages dovecot-imapd, nginx-light, libnginx-mod-stream and libnginx-mod-mail, or coturn, and runs
// everything on loopback. Figures are medians of runs that take turns. CPU time is that of the proxy's processes alone, or
// of all of Dovecot's where it stands without a proxy; resident memory is counted after the processes have had time
// to give back what they do not need.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type options struct {
	key    string
	idle   int
	settle time.Duration
	runs   int
	logins int
	trips  int
	fetch  int
	only   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	var err error
	switch command {
	case "turn":
		err = turnMain(ctx, os.Args[2:])
	case "pion":
		err = pionMain(os.Args[2:])
	default:
		err = imapMain(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// imapMain is the command without a name.
func imapMain(ctx context.Context) error {
	var o options
	flag.StringVar(&o.key, "key", "ecdsa", "key of the certificate, `ecdsa` (P-256) or rsa (2048 bits)")
	flag.IntVar(&o.idle, "idle", 1000, "idle connections; 0 leaves this out")
	flag.DurationVar(&o.settle, "settle", 20*time.Second, "how long they are left alone before memory is counted")
	flag.IntVar(&o.runs, "runs", 5, "runs of each measurement")
	flag.IntVar(&o.logins, "logins", 100, "logins in a run; 0 leaves this out")
	flag.IntVar(&o.trips, "trips", 2000, "round trips in a run; 0 leaves this out")
	flag.IntVar(&o.fetch, "fetch", 100, "size in MB of the message that is fetched; 0 leaves this out")
	flag.StringVar(&o.only, "only", "", "a comma-separated list of servers: mailturn, nginx stream, nginx mail, Dovecot")
	flag.Parse()
	return run(ctx, o)
}

func run(ctx context.Context, o options) (err error) {
	for _, program := range []string{"dovecot", "nginx"} {
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
	servers, logs, stopAll, err := startServers(ctx, dir, certificate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAll()) }()
	backend := servers[len(servers)-1]
	if o.only != "" {
		wanted := strings.Split(o.only, ",")
		servers = slices.DeleteFunc(servers, func(s *server) bool { return !slices.Contains(wanted, s.name) })
	}

	b := bench{options: o, servers: servers, backend: backend, roots: certificate.roots}
	if err := b.measure(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, logs())
	}
	b.report(os.Stdout)
	return nil
}

var columns = []column{
	{"login ms", "%.2f", false},
	{"login CPU ms", "%.2f", true},
	{"NOOP CPU us", "%.0f", true},
	{"GETMETADATA CPU us", "%.0f", true},
	{"GETMETADATA us", "%.0f", false},
	{"FETCH MB/s", "%.0f", false},
	{"FETCH MB/CPU s", "%.0f", true},
	{"idle KiB", "%.1f", true},
}

func (b *bench) report(w io.Writer) {
	b.table.columns, b.table.reference = columns, "nginx stream"
	for _, s := range b.servers {
		b.table.names = append(b.table.names, s.name)
	}
	b.table.print(w, b.options.key)
}

// buildMailturn builds the program as it is released.
func buildMailturn(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "mailturn")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/mailturn/mailturn/cmd/mailturn")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
}
