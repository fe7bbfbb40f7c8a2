// Command soak has clients come and go at random on a TURN server in its own process, over UDP, TCP, TLS and DTLS, and looks
// whether anything is left behind:
//
//	go run ./cmd/mailturn/bench/soak -duration 1h
//
// The clients allocate, bind channels, send to a peer that sends back, refresh, and leave: with a Refresh, by closing, or
// without a word. Everything is on loopback. While they do, it prints what the process holds; at the end it fails if memory has
// grown, if a goroutine, a descriptor, an allocation or a connection is left, or if more messages were lost than the system says
// to have dropped.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", time.Minute, "how long clients come and go")
	flag.IntVar(&o.clients, "clients", 500, "clients at a time")
	flag.DurationVar(&o.pause, "pause", time.Second, "mean pause between two things that a client does")
	flag.DurationVar(&o.lifetime, "lifetime", time.Minute, "lifetime of allocations, after which those of clients end that left without a word")
	flag.Uint64Var(&o.seed, "seed", 1, "of the random choices")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt does not wait until everything is forgotten
	if err := soak(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}
