package bench

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/process"
	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
)

// A bench measures servers in turn.
type bench struct {
	options options
	servers []*server
	backend *server // Dovecot without a proxy, even if it is not measured
	roots   *x509.CertPool
	discard bool
	table   report.Table
}

// user is the user who logs in. Connections of one user share a Dovecot process.
const user = "bench"

func (b *bench) add(column string, s *server, figure float64) {
	if b.discard {
		return
	}
	b.table.Add(column, s.name, figure)
}

func (b *bench) measure(ctx context.Context) error {
	if b.options.fetch > 0 {
		c, err := login(ctx, b.backend, b.roots, user)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		if err := c.append(b.options.fetch * 1000 * 1000); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		name  string
		times int // in a run
		run   func(ctx context.Context, s *server) error
	}{
		{"logins", b.options.logins, b.logins},
		{"round trips", b.options.trips, b.trips},
		{"fetches", b.options.fetch, b.fetches},
	} {
		if m.times == 0 {
			continue
		}
		for i := range b.options.runs + 1 {
			fmt.Fprintf(os.Stderr, "\r%s, run %d of %d ", m.name, i, b.options.runs)
			// The first run is a warm-up whose figures are discarded.
			b.discard = i == 0
			for j := range b.servers {
				s := b.servers[(i+j)%len(b.servers)]
				if err := m.run(ctx, s); err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, m.name, err)
				}
			}
		}
		fmt.Fprintln(os.Stderr)
	}
	return nil
}

// idles measures the idle connections of every proxy. Without a proxy, all of Dovecot's share a process here, so its figure would
// be meaningless.
func (b *bench) idles(ctx context.Context) error {
	b.discard = false
	for _, s := range b.servers {
		if !s.proxy {
			continue
		}
		if err := b.idle(ctx, s); err != nil {
			return fmt.Errorf("%s, idle connections: %w", s.name, err)
		}
	}
	return nil
}

// cpu returns the CPU time that the server's processes use while f runs.
func cpu(s *server, f func() error) (time.Duration, error) {
	used, err := process.During(s.group, f)
	return used.CPU, err
}

// logins opens connections one after the other, and logs in and out on each.
func (b *bench) logins(ctx context.Context, s *server) error {
	n := b.options.logins
	var took []float64
	used, err := cpu(s, func() error {
		for range n {
			begin := time.Now()
			c, err := login(ctx, s, b.roots, user)
			if err != nil {
				return err
			}
			took = append(took, float64(time.Since(begin).Microseconds())/1000)
			_, err = c.command("LOGOUT")
			c.conn.Close()
			if err != nil {
				return err
			}
		}
		return nil
	})
	b.add("login ms", s, report.Median(took))
	b.add(loginCPU, s, used.Seconds()*1000/float64(n))
	return err
}

// trips sends commands that are answered immediately.
func (b *bench) trips(ctx context.Context, s *server) error {
	c, err := login(ctx, s, b.roots, user)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	n := b.options.trips
	for _, command := range []struct{ name, cpu, text string }{
		{"NOOP", noopCPU, "NOOP"},
		{"GETMETADATA", metadataCPU, `GETMETADATA "" /shared/vendor/deltachat/turn`},
	} {
		begin := time.Now()
		used, err := cpu(s, func() error {
			for range n {
				if _, err := c.command(command.text); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.add(command.cpu, s, used.Seconds()*1e6/float64(n))
		b.add(command.name+" us", s, time.Since(begin).Seconds()*1e6/float64(n))
	}
	return nil
}

// fetches fetches the large message.
func (b *bench) fetches(ctx context.Context, s *server) error {
	c, err := login(ctx, s, b.roots, user)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	if _, err := c.command("EXAMINE INBOX"); err != nil {
		return err
	}
	begin := time.Now()
	var size int64
	used, err := cpu(s, func() (err error) {
		size, err = c.command("FETCH 1 BODY.PEEK[]")
		return err
	})
	megabytes := float64(size) / 1e6
	b.add("FETCH MB/s", s, megabytes/time.Since(begin).Seconds())
	b.add(fetchCPU, s, megabytes/used.Seconds())
	return err
}

// idle opens connections, logs in, and leaves them idle.
func (b *bench) idle(ctx context.Context, s *server) error {
	before, err := process.Memory(s.group)
	if err != nil {
		return err
	}
	clients := make([]*client, b.options.idle)
	defer inParallel(clients, func(i int) error {
		if clients[i] != nil {
			clients[i].conn.Close()
		}
		return nil
	})
	err = inParallel(clients, func(i int) (err error) {
		clients[i], err = login(ctx, s, b.roots, user)
		return err
	})
	if err != nil {
		return err
	}
	select {
	case <-time.After(b.options.settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := process.Memory(s.group)
	if err != nil {
		return err
	}
	// No connection was dropped meanwhile.
	err = inParallel(clients, func(i int) error {
		_, err := clients[i].command("NOOP")
		return err
	})
	if err != nil {
		return err
	}
	b.add(idleHeld, s, float64(len(clients)))
	b.add(idleMemory, s, float64(after-before)/float64(len(clients))/1024)
	return nil
}

// parallel is how many clients log in concurrently.
const parallel = 16

// inParallel calls f for the index of every client, and returns the first error.
func inParallel(clients []*client, f func(i int) error) error {
	var next atomic.Int64
	errs := make(chan error, parallel)
	for range parallel {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(clients) {
					errs <- nil
					return
				}
				if err := f(i); err != nil {
					next.Store(int64(len(clients)))
					errs <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
			}
		}()
	}
	var first error
	for range parallel {
		if err := <-errs; first == nil {
			first = err
		}
	}
	return first
}
