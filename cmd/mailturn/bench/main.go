// Command bench measures what mailturn costs in front of Dovecot, beside nginx in front of the same Dovecot and Dovecot
// without a proxy.
//
//	go run ./cmd/mailturn/bench
//
// It needs Linux and Debian's packages dovecot-imapd, nginx-light, libnginx-mod-stream and libnginx-mod-mail, and runs
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
	"text/tabwriter"
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
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

	b := bench{options: o, servers: servers, backend: backend, roots: certificate.roots, results: make(map[string]map[string][]float64)}
	if err := b.measure(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, logs())
	}
	b.report(os.Stdout)
	return nil
}

// A column is one figure of the report.
type column struct {
	name   string
	format string
	ratio  bool // to the same of nginx stream
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

const reference = "nginx stream"

func (b *bench) report(w io.Writer) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(out, b.options.key, "\t")
	for _, s := range b.servers {
		fmt.Fprint(out, s.name, "\t")
	}
	fmt.Fprintln(out)
	for _, c := range columns {
		if b.results[c.name] == nil {
			continue
		}
		fmt.Fprint(out, c.name, "\t")
		beside := median(b.results[c.name][reference])
		for _, s := range b.servers {
			if len(b.results[c.name][s.name]) == 0 {
				fmt.Fprint(out, "-\t")
				continue
			}
			figure := median(b.results[c.name][s.name])
			fmt.Fprintf(out, c.format, figure)
			if c.ratio && beside > 0 && s.name != reference {
				fmt.Fprintf(out, " (x %.2f)", figure/beside)
			}
			fmt.Fprint(out, "\t")
		}
		fmt.Fprintln(out)
	}
	out.Flush()
	fmt.Fprintf(w, "x: beside %s\n", reference)
}

func median(figures []float64) float64 {
	if len(figures) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(figures))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// buildMailturn builds the program as it is released.
func buildMailturn(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "mailturn")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/mailturn/mailturn/cmd/mailturn")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
}
