// Package turn compares the cost of TURN servers: mailturn as installed and with other settings, coturn, and pion as run by
// turnsrv/pionturn. Servers take turns under the same load, run by run, because a busy machine slows down all of them alike.
package turn

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

type options struct {
	rows    string
	runs    int
	only    string
	program string
	besides string
	coturn  string
	network string
	quick   bool
	write   string

	relay time.Duration

	clients int
	workers int

	levels     string
	idle       int
	settle     time.Duration
	permission bool
	channel    bool
}

// bench measures servers in turn.
type bench struct {
	options    options
	dir        string // for the servers' files
	network    network
	certs      certFiles
	builds     []string // of mailturn
	credential credential.Credential
	connected  int // clients so far
	tables     []*report.Table
	table      *report.Table // the last one, which is still being filled
	goals      map[*report.Table][]report.Goal
}

// certFiles are the files of the certificate of all servers, in PEM.
type certFiles struct{ cert, key string }

const (
	// requestLimit is how long the requests of all clients together may take.
	requestLimit = 2 * time.Minute
	// idleLimit is less than the lifetime of an allocation and the time that it takes to make all of them.
	idleLimit = 7 * time.Minute
)

// Rows other than loads of packets.
const (
	allocateRow = "allocate"
	fairnessRow = "fairness"
	idleRow     = "idle"
	workersRow  = "workers"
	scalingRow  = "scaling"
	kernelRow   = "kernel"
)

func rowNames() []string {
	names := []string{allocateRow}
	for _, r := range relayRows {
		names = append(names, r.name)
	}
	return append(names, fairnessRow, idleRow, workersRow, scalingRow, kernelRow)
}

// Inside is the name of the command that Main runs in a network namespace, with the same arguments.
const Inside = "turn-inside"

// Main runs the command "bench turn" with its arguments, or Inside. cert and key are files in PEM; build builds mailturn and
// returns its path.
func Main(ctx context.Context, inside bool, args []string, dir, cert, key string, build func(context.Context) (string, error)) error {
	var o options
	var variants variantsFlag
	flags := flag.NewFlagSet("bench turn", flag.ExitOnError)
	flags.StringVar(&o.rows, "rows", strings.Join(rowNames(), ","), "a comma-separated list of what is measured")
	flags.IntVar(&o.runs, "runs", 5, "runs of each measurement")
	flags.IntVar(&o.clients, "clients", 2000, "clients that allocate and let go in a run")
	flags.IntVar(&o.workers, "workers", 32, "clients that do so at a time")
	flags.DurationVar(&o.relay, "relay", 1500*time.Millisecond, "how long packets are relayed in a run")
	flags.StringVar(&o.levels, "allocations", "100,1000,10000,100000", "a comma-separated list of how many allocations a server has in the row scaling")
	flags.IntVar(&o.idle, "idle", 10000, "idle allocations, at most 15000")
	flags.BoolVar(&o.permission, "permission", false, "give each idle allocation a permission")
	flags.BoolVar(&o.channel, "channel", false, "give each idle allocation a channel, which brings a permission with it")
	flags.DurationVar(&o.settle, "settle", 150*time.Second, "how long they are left alone before memory is counted: Go collects its garbage after two minutes")
	flags.StringVar(&o.only, "only", "", "a comma-separated list of the servers to measure, by the names in the report")
	flags.StringVar(&o.program, "program", "", "the `program` mailturn to measure; without it, one is built")
	flags.StringVar(&o.besides, "beside", "", "a comma-separated list of other `programs` mailturn, such as one built before a change, to be measured too")
	flags.StringVar(&o.coturn, "coturn", "", "another `program` turnserver, such as a newer one, to be measured too")
	flags.StringVar(&o.network, "network", "", "`where` packets travel: loopback, or veth for three hosts in network namespaces, joined by veth pairs, the default for root")
	flags.BoolVar(&o.quick, "quick", false, "measure everything for a moment, to see that it works: the figures mean little")
	flags.StringVar(&o.write, "write", "", "a Markdown `file`, such as docs/speed.md, whose section \"bench turn\" gets the report")
	flags.Var(&variants, "variant", "`NAME=LINES`: measure mailturn with these lines in its endpoint too, separated by semicolons; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.quick {
		o.setQuick()
	}
	if o.settle > idleLimit {
		return fmt.Errorf("allocations live for ten minutes: want -settle of at most %v", idleLimit)
	}
	if o.idle > 15000 {
		return errors.New("the relay's ports are 16384, of which some may be taken: want at most 15000 idle allocations")
	}
	rows := split(o.rows)
	for _, name := range rows {
		if !slices.Contains(rowNames(), name) {
			return fmt.Errorf("unknown row %q: want some of %s", name, strings.Join(rowNames(), ", "))
		}
	}
	switch mayJoin := mayJoinNamespaces(); {
	case inside || o.network == "loopback":
	case o.network != "" && o.network != "veth":
		return fmt.Errorf("unknown network %q: want loopback or veth", o.network)
	case mayJoin == nil:
		return inNamespace(ctx, append([]string{Inside}, args...)...)
	case o.network == "veth":
		return mayJoin
	}
	net := loopback
	if inside {
		joined, leave, err := joinNamespaces(ctx)
		if err != nil {
			return err
		}
		defer leave()
		net = joined
	}
	binary := o.program
	if binary == "" {
		var err error
		if binary, err = build(ctx); err != nil {
			return err
		}
	}
	issuer := credential.Issuer{Secret: credential.NewSecret([]byte(secret)), TTL: 24 * time.Hour}
	b := bench{
		options: o, dir: dir, network: net, certs: certFiles{cert, key}, credential: issuer.Issue(time.Now()),
		builds: append([]string{binary}, split(o.besides)...), goals: make(map[*report.Table][]report.Goal),
	}
	kinds, err := b.kinds(ctx, variants)
	if err != nil {
		return err
	}
	b.begin(b.network.name, coturnName, kinds)
	b.goals[b.table] = goals()
	// Some rows begin separate tables, and come last.
	slices.SortStableFunc(rows, func(x, y string) int { return cmp.Compare(slices.Index(rowNames(), x), slices.Index(rowNames(), y)) })
	for _, name := range rows {
		if err = b.measure(ctx, name, kinds); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			break
		}
	}
	var out strings.Builder
	b.print(&out) // the results so far
	fmt.Print(out.String())
	if err == nil && o.write != "" {
		err = report.ReplaceSection(o.write, "bench turn", out.String())
	}
	return err
}

// setQuick makes the runs as short as they can be.
func (o *options) setQuick() {
	o.runs, o.relay, o.clients, o.workers = 1, 200*time.Millisecond, 50, 10
	o.idle, o.settle, o.levels = 100, time.Second, "200,400"
}

// print prints the tables, and which goals are reached.
func (b *bench) print(w io.Writer) {
	for _, t := range b.tables {
		if len(t.Columns) == 0 {
			continue
		}
		t.Print(w)
		fmt.Fprintln(w)
	}
	for _, t := range b.tables {
		if goals := b.goals[t]; len(goals) > 0 {
			t.PrintGoals(w, goals)
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintf(w, "medians of %d runs of %v, %s, Linux %s, %d processors, %s, %s\n", b.options.runs, b.options.relay,
		time.Now().Format(time.DateOnly), kernelRelease(), runtime.NumCPU(), runtime.Version(), coturnVersion())
}

// kernelRelease returns the release of the running kernel, such as 6.1.
func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "of an unknown release"
	}
	release := strings.SplitN(unix.ByteSliceToString(name.Release[:]), ".", 3)
	return strings.Join(release[:min(2, len(release))], ".")
}

// coturnVersion returns the version of the coturn that is installed.
func coturnVersion() string {
	version, err := exec.Command("turnserver", "--version").Output()
	if err != nil {
		return "no coturn"
	}
	return "coturn " + strings.TrimSpace(string(version))
}

// begin begins a table of servers.
func (b *bench) begin(title, reference string, kinds []kind) {
	b.table = &report.Table{Title: title, Reference: reference}
	for _, k := range kinds {
		b.table.Names = append(b.table.Names, k.name)
	}
	b.tables = append(b.tables, b.table)
}

func (b *bench) measure(ctx context.Context, name string, kinds []kind) error {
	switch name {
	case allocateRow:
		return b.measureAllocate(ctx, withTURN(kinds))
	case fairnessRow:
		return b.measureFairness(ctx, withTURN(kinds))
	case idleRow:
		return b.measureMemory(ctx, withTURN(kinds))
	case workersRow:
		return b.measureWorkers(ctx)
	case scalingRow:
		return b.measureScaling(ctx)
	case kernelRow:
		return b.measureKernel(ctx)
	}
	i := slices.IndexFunc(relayRows, func(r relayRow) bool { return r.name == name })
	return b.measureRelay(ctx, relayRows[i], kinds)
}

// inTurn starts servers and measures them in turn.
func (b *bench) inTurn(ctx context.Context, what string, kinds []kind, measure func(s *running, discard bool) error) (err error) {
	var servers []*running
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.child.Stop())
		}
	}()
	for _, k := range kinds {
		s, err := b.start(ctx, k)
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	for i := range b.options.runs + 1 {
		fmt.Fprintf(os.Stderr, "\r%s, run %d of %d ", what, i, b.options.runs)
		for j := range servers {
			s := servers[(i+j)%len(servers)]
			if err := measure(s, i == 0); err != nil { // the first run warms up
				return fmt.Errorf("%s: %w\n%s", s.name, err, s.log())
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	return nil
}

// split cuts a comma-separated list, which may be empty.
func split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
