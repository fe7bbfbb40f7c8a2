// Package soak makes clients come and go at random on a TURN server in its own process, over UDP, TCP, TLS and DTLS, and checks
// whether anything is left behind:
//
//	go run ./cmd/mailturn/internal/soak/main.go -duration 1h
//
// The clients allocate, bind channels, send to a peer that sends back, refresh, and leave: with a Refresh, by closing, or silently.
// Everything is on loopback. Meanwhile, it prints the resources of the process. At the end, it fails if memory has grown, if a
// goroutine, a descriptor, an allocation or a connection is left, or if more messages were lost than the system reports as dropped.
package soak

import (
	"context"
	"flag"
	"io"
	"time"
)

// Main runs the command with its arguments. It writes to out until the time is up, or ctx is done.
func Main(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("soak", flag.ExitOnError)
	flags.DurationVar(&o.duration, "duration", time.Minute, "how long clients come and go")
	flags.IntVar(&o.clients, "clients", 500, "clients at a time")
	flags.DurationVar(&o.pause, "pause", time.Second, "mean pause between two things that a client does")
	flags.DurationVar(&o.lifetime, "lifetime", time.Minute, "lifetime of allocations, after which those of clients end that left without a word")
	flags.Uint64Var(&o.seed, "seed", 1, "of the random choices")
	flags.Parse(args)
	return soak(ctx, o, out)
}
