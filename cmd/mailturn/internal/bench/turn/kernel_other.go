//go:build !linux

package turn

import (
	"context"
	"fmt"
	"os"
)

func (*bench) measureKernel(context.Context) error {
	fmt.Fprintln(os.Stderr, "kernel: left out, because it requires Linux")
	return nil
}
