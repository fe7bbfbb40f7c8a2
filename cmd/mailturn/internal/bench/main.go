//go:build ignore

// Command bench runs package bench. It is excluded from `go install ./...`, which installs only mailturn.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench.Main(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
