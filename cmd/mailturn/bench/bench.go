package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// A bench measures servers in turn.
type bench struct {
	options options
	servers []*server
	backend *server // Dovecot without a proxy, also where it is not measured
	roots   *x509.CertPool
	discard bool
	table   table
}

// user is who logs in. Connections of one user share a process of Dovecot's.
const user = "bench"

func (b *bench) add(column string, s *server, figure float64) {
	if b.discard {
		return
	}
	b.table.add(column, s.name, figure)
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
			// The first run warms up, and its figures go nowhere.
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
	if b.options.idle == 0 {
		return nil
	}
	for _, s := range b.servers {
		if !s.proxy {
			continue // all of Dovecot's share a process here, so its figure would say nothing
		}
		fmt.Fprintf(os.Stderr, "%d idle connections to %s\n", b.options.idle, s.name)
		if err := b.idle(ctx, s); err != nil {
			return fmt.Errorf("%s, idle connections: %w", s.name, err)
		}
	}
	return nil
}

// cpu returns what the server's processes use of CPU time while f runs.
func cpu(s *server, f func() error) (time.Duration, error) {
	pids, err := processes(s.group)
	if err != nil {
		return 0, err
	}
	before := cpuTime(pids)
	if err := f(); err != nil {
		return 0, err
	}
	return cpuTime(pids) - before, nil
}

// logins opens connections one after the other, logs in and out.
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
	b.add("login ms", s, median(took))
	b.add("login CPU ms", s, used.Seconds()*1000/float64(n))
	return err
}

// trips sends commands that are answered at once.
func (b *bench) trips(ctx context.Context, s *server) error {
	c, err := login(ctx, s, b.roots, user)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	n := b.options.trips
	for _, command := range []struct{ name, text string }{
		{"NOOP", "NOOP"},
		{"GETMETADATA", `GETMETADATA "" /shared/vendor/deltachat/turn`},
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
		b.add(command.name+" CPU us", s, used.Seconds()*1e6/float64(n))
		b.add(command.name+" us", s, time.Since(begin).Seconds()*1e6/float64(n))
	}
	return nil
}

// fetches fetches the big message.
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
	b.add("FETCH MB/CPU s", s, megabytes/used.Seconds())
	return err
}

// idle opens connections that are logged in and say nothing.
func (b *bench) idle(ctx context.Context, s *server) error {
	before, err := memory(s)
	if err != nil {
		return err
	}
	clients := make([]*client, b.options.idle)
	defer func() {
		var closing sync.WaitGroup
		for _, c := range clients {
			if c != nil {
				closing.Go(func() { c.conn.Close() })
			}
		}
		closing.Wait()
	}()
	for i := range clients {
		if clients[i], err = login(ctx, s, b.roots, user); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	select {
	case <-time.After(b.options.settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := memory(s)
	if err != nil {
		return err
	}
	// Nobody was dropped meanwhile.
	for i, c := range clients {
		if _, err := c.command("NOOP"); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	b.add("idle KiB", s, float64(after-before)/float64(len(clients))/1024)
	return nil
}
