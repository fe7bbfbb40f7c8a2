package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/framework/module"
)

// passLimit is how long connections through a shared port to its fallback may go on in a process that retires, if they are not quiet.
const passLimit = 5 * time.Minute

// retire ends the service, in whose place another process serves. finish ends its relays. The connections of IMAP clients go on until
// ctx is done, or for as long as their endpoints' upgrade_timeout.
func (r *service) retire(ctx context.Context, finish func() error) error {
	r.ready.Store(false)
	for _, endpoint := range r.running { // at once: what follows may take as long as connections are silent
		if mail, ok := endpoint.(*imap.Endpoint); ok {
			mail.StopIssuing()
		}
	}
	r.ports.StopAccepting()
	r.book.HandOver()
	r.member.keeper.HandOver()
	err := finish() // first, because calls wait for it
	r.authority.Stop()
	r.look.stop()
	r.member.stop()
	r.record.Close()
	r.ports.Settle(ctx)
	r.book.Close()
	stop := func(shutdown func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), stopReserve)
		defer cancel()
		return shutdown(ctx)
	}
	err = errors.Join(err, stop(r.watch.Shutdown))
	passing, cancel := context.WithTimeout(ctx, passLimit)
	defer cancel()
	var ending sync.WaitGroup
	ending.Go(func() { r.ports.Shutdown(passing) })
	defer ending.Wait()
	for _, endpoint := range r.running {
		if mail, ok := endpoint.(*imap.Endpoint); ok {
			mail.StopAccepting()
		}
	}
	// The other endpoints have the same listening sockets as those of the new process, which does not know what they issue.
	err = errors.Join(err, stop(func(ctx context.Context) error {
		return r.group.ShutdownThose(ctx, func(endpoint module.Endpoint) bool {
			_, ok := endpoint.(*imap.Endpoint)
			return !ok
		})
	}))
	for _, endpoint := range r.running {
		if mail, ok := endpoint.(*imap.Endpoint); ok {
			mail.Retire(ctx)
		}
	}
	return errors.Join(err, stop(r.group.Shutdown))
}
