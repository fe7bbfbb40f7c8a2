//go:build ignore

// Command soak runs package soak. It is excluded from `go install ./...`, which installs only mailturn.
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
	context.AfterFunc(ctx, stop) // a second interrupt ends it immediately
	if err := soak.Main(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}
