package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/turnclient"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

type turnOptions struct {
	runs    int
	clients int
	workers int
	idle    int
	settle  time.Duration
	only    string
	beside  string

	relay     time.Duration
	workloads string

	permission bool
	channel    bool
}

// turnBench measures TURN servers in turn.
type turnBench struct {
	options    turnOptions
	dir        string
	credential credential.Credential
	connected  int // clients so far
	table      table
}

const (
	// requestLimit is how long requests of all clients together may take.
	requestLimit = 2 * time.Minute
	// idleLimit is less than the lifetime of an allocation and the time that it takes to make all of them.
	idleLimit = 7 * time.Minute
)

// turnMain is the command "bench turn".
func turnMain(ctx context.Context, args []string) error {
	var o turnOptions
	flags := flag.NewFlagSet("bench turn", flag.ExitOnError)
	flags.IntVar(&o.runs, "runs", 5, "runs of each measurement")
	flags.IntVar(&o.clients, "clients", 2000, "clients that allocate and let go in a run; 0 leaves this out")
	flags.IntVar(&o.workers, "workers", 32, "clients that do so at a time")
	flags.DurationVar(&o.relay, "relay", 3*time.Second, "how long packets are relayed in a run; 0 leaves this out")
	flags.StringVar(&o.workloads, "workloads", strings.Join(workloadNames(), ","), "a comma-separated list of what is relayed")
	flags.IntVar(&o.idle, "idle", 10000, "idle allocations, at most 15000; 0 leaves this out")
	flags.BoolVar(&o.permission, "permission", false, "give each idle allocation a permission")
	flags.BoolVar(&o.channel, "channel", false, "give each idle allocation a channel, which brings a permission with it")
	flags.DurationVar(&o.settle, "settle", 150*time.Second, "how long they are left alone before memory is counted: Go collects its garbage after two minutes")
	flags.StringVar(&o.only, "only", "", "a comma-separated list of servers: "+strings.Join(turnServerNames(), ", "))
	flags.StringVar(&o.beside, "beside", "", "a comma-separated list of other `programs` mailturn, such as one built before a change, to be measured too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.settle > idleLimit {
		return fmt.Errorf("allocations live for ten minutes: want -settle of at most %v", idleLimit)
	}
	if o.idle > 15000 {
		return errors.New("the relay's ports are 16384, of which some may be taken: want at most 15000 idle allocations")
	}
	dir, err := os.MkdirTemp("", "mailturn-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	issuer := credential.Issuer{Secret: credential.NewSecret([]byte(turnSecret)), TTL: 24 * time.Hour}
	b := turnBench{options: o, dir: dir, credential: issuer.Issue(time.Now()), table: table{columns: turnColumns, reference: "coturn"}}
	kinds, err := turnServers(ctx, dir)
	if err != nil {
		return err
	}
	if o.only != "" {
		wanted := strings.Split(o.only, ",")
		kinds = slices.DeleteFunc(kinds, func(k turnServer) bool { return !slices.Contains(wanted, k.name) })
	}
	for i, binary := range strings.FieldsFunc(o.beside, func(r rune) bool { return r == ',' }) {
		kinds = append(kinds, mailturnServer(filepath.Base(binary), fmt.Sprintf("127.0.0.%d", 4+i), binary))
	}
	for _, k := range kinds {
		b.table.names = append(b.table.names, k.name)
	}
	if o.clients > 0 {
		if err := b.inTurn(ctx, "allocations", kinds, func(s *runningTurn, discard bool) error { return b.rates(ctx, s, discard) }); err != nil {
			return err
		}
	}
	if o.relay > 0 {
		if err := b.measureRelay(ctx, kinds); err != nil {
			return err
		}
	}
	if o.idle > 0 {
		if err := b.measureMemory(ctx, kinds); err != nil {
			return err
		}
	}
	b.table.print(os.Stdout, "TURN over UDP")
	return nil
}

var turnColumns = []column{
	{name: "allocations/s", format: "%.0f", ratio: true},
	{name: "CPU us/allocation", format: "%.0f", ratio: true},
	{name: "CPU us/cycle", format: "%.0f", ratio: true},
	{name: "KiB/idle allocation", format: "%.2f", ratio: true},
}

// rates has clients that the server has never seen allocate, and then let go.
func (b *turnBench) rates(ctx context.Context, s *runningTurn, discard bool) error {
	clients, err := b.connect(ctx, s.addr, b.options.clients)
	if err != nil {
		return err
	}
	defer closeAll(clients)
	var took time.Duration
	used, err := cpu(s.process, func() error {
		begin := time.Now()
		defer func() { took = time.Since(begin) }()
		return b.each(ctx, clients, allocate)
	})
	if err != nil {
		return err
	}
	ended, err := cpu(s.process, func() error {
		return b.each(ctx, clients, func(ctx context.Context, c *turnclient.Client) error {
			_, err := c.Refresh(ctx, 0)
			return err
		})
	})
	if err != nil || discard {
		return err
	}
	n := float64(len(clients))
	b.table.add("allocations/s", s.name, n/took.Seconds())
	b.table.add("CPU us/allocation", s.name, used.Seconds()*1e6/n)
	b.table.add("CPU us/cycle", s.name, (used+ended).Seconds()*1e6/n)
	return nil
}

// measureMemory fills fresh servers one after the other, leaves them alone all at once, and sees what they hold.
func (b *turnBench) measureMemory(ctx context.Context, kinds []turnServer) (err error) {
	type filled struct {
		*runningTurn
		before int
		sample []*turnclient.Client
	}
	var servers []filled
	defer func() {
		for _, s := range servers {
			closeAll(s.sample)
			err = errors.Join(err, s.stop())
		}
	}()
	for _, k := range kinds {
		fmt.Fprintf(os.Stderr, "%d idle allocations on %s\n", b.options.idle, k.name)
		s, err := k.start(ctx, b.dir)
		if err != nil {
			return err
		}
		servers = append(servers, filled{runningTurn: s})
		f := &servers[len(servers)-1]
		if f.before, err = memory(s.process); err != nil {
			return err
		}
		clients, err := b.connect(ctx, s.addr, b.options.idle)
		if err != nil {
			return err
		}
		if err = b.each(ctx, clients, allocate); err == nil && b.options.permission {
			err = b.each(ctx, clients, permit)
		}
		if err == nil && b.options.channel {
			err = b.each(ctx, clients, bind)
		}
		// Over UDP the server does not learn that a client has gone, and the clients of all servers together would be more
		// than this process may have descriptors.
		keep := min(100, len(clients))
		closeAll(clients[keep:])
		f.sample = clients[:keep]
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", s.name, err, s.log())
		}
	}
	fmt.Fprintf(os.Stderr, "leaving them alone for %v\n", b.options.settle)
	select {
	case <-time.After(b.options.settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, s := range servers {
		after, err := memory(s.process)
		if err != nil {
			return err
		}
		if err := b.each(ctx, s.sample, refresh); err != nil {
			return fmt.Errorf("%s has lost an allocation: %w", s.name, err)
		}
		b.table.add("KiB/idle allocation", s.name, float64(after-s.before)/float64(b.options.idle)/1024)
	}
	return nil
}

// nextClient returns an address in another network than the one before, because a server may limit what one network asks,
// and that no client had before, because coturn may take one that comes again for the client that it was.
func (b *turnBench) nextClient() netip.Addr {
	addr := netip.AddrFrom4([4]byte{127, 1 + byte(b.connected/50000), byte(b.connected % 200), 1 + byte(b.connected/200%250)})
	b.connected++
	return addr
}

// client returns a client on conn, which is connected to a server.
func (b *turnBench) client(conn net.Conn) *turnclient.Client {
	return turnclient.New(turnclient.Config{Conn: conn, Username: b.credential.Username, Password: b.credential.Password})
}

// connect opens sockets.
func (b *turnBench) connect(ctx context.Context, server netip.AddrPort, n int) ([]*turnclient.Client, error) {
	clients := make([]*turnclient.Client, 0, n)
	for range n {
		dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.nextClient(), 0))}
		conn, err := dialer.DialContext(ctx, "udp4", server.String())
		if err != nil {
			closeAll(clients)
			return nil, err
		}
		clients = append(clients, b.client(conn))
	}
	return clients, nil
}

func closeAll(clients []*turnclient.Client) {
	for _, c := range clients {
		c.Close()
	}
}

// allocate does what a client does that comes for the first time.
func allocate(ctx context.Context, c *turnclient.Client) error {
	if _, err := c.Challenge(ctx); err != nil {
		return err
	}
	_, err := c.Allocate(ctx)
	return err
}

// permit makes a permission for somebody to whom nothing is sent.
func permit(ctx context.Context, c *turnclient.Client) error {
	return c.CreatePermission(ctx, netip.AddrFrom4([4]byte{1, 1, 1, 1}))
}

// bind binds a channel to somebody to whom nothing is sent.
func bind(ctx context.Context, c *turnclient.Client) error {
	return c.ChannelBind(ctx, 0x4000, netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 1, 1, 1}), 9))
}

func refresh(ctx context.Context, c *turnclient.Client) error {
	_, err := c.Refresh(ctx, 10*time.Minute)
	return err
}

// each calls f for every client, for so many at a time, until one fails.
func (b *turnBench) each(ctx context.Context, clients []*turnclient.Client, f func(context.Context, *turnclient.Client) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, requestLimit, fmt.Errorf("not done in %v", requestLimit))
	defer cancel()
	var next atomic.Int64
	var working sync.WaitGroup
	fail := make(chan error, b.options.workers)
	for range b.options.workers {
		working.Go(func() {
			for len(fail) == 0 {
				i := int(next.Add(1)) - 1
				if i >= len(clients) {
					return
				}
				if err := f(ctx, clients[i]); err != nil {
					fail <- err
					return
				}
			}
		})
	}
	working.Wait()
	close(fail)
	return <-fail // nil if there is none
}
