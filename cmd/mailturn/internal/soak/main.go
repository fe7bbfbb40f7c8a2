//go:build ignore

// Command soak is package soak. It is left out of `go install ./...`, which installs mailturn alone.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt does not wait until everything is forgotten
	if err := soak.Main(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}
