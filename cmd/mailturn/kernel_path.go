package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/turnsrv"
)

func newKernelPathCommand() *cobra.Command {
	var clean bool
	cmd := &cobra.Command{
		Use:   "kernel-path",
		Short: "Check whether the kernel of this machine can relay calls",
		Long: `kernel-path loads the program with which the kernel relays the packets of calls, checks that it works,
and removes it again. It attaches it to no interface. It says whether a turn endpoint with
kernel_path = "auto" would use it if it had the same privileges.

Exit status:
  0  it works
  1  it does not, for the reason that is printed`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if clean {
				return turnsrv.CleanKernelPath()
			}
			if err := turnsrv.TryKernelPath(); err != nil {
				return fmt.Errorf("the kernel cannot relay calls: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "The kernel can relay calls.")
			return nil
		}),
	}
	cmd.Flags().BoolVar(&clean, "clean", false, "remove what a mailturn that was killed has left on network interfaces (before Linux 6.6); call it while none runs")
	return cmd
}
