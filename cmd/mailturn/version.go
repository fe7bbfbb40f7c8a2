package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: `version prints the tag or commit that the program was built from, with "+dirty" if there were
uncommitted changes, or (devel) if the build does not know it, as with "go run".`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionText())
			return err
		}),
	}
}

// versionText is what the command and the flag --version print.
func versionText() string {
	var b strings.Builder
	info := buildInfo()
	fmt.Fprintf(&b, "mailturn %s\n%s %s/%s\n", info.Main.Version, info.GoVersion, runtime.GOOS, runtime.GOARCH)
	for _, dep := range info.Deps {
		switch dep.Path {
		case "github.com/pion/turn/v4", "github.com/pion/stun/v3", "github.com/emersion/go-imap/v2":
			fmt.Fprintf(&b, "%s %s\n", dep.Path, dep.Version)
		}
	}
	return b.String()
}

// buildInfo is the build information embedded in the program.
func buildInfo() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return &debug.BuildInfo{GoVersion: runtime.Version(), Main: debug.Module{Version: "(devel)"}} // by something else than the go command
}

// versionMetric is 1 and has the version as a label, for joins with other metrics.
func versionMetric() prometheus.Gauge {
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mailturn_build_info", Help: "1, with the version that mailturn version prints.",
		ConstLabels: prometheus.Labels{"version": buildInfo().Main.Version},
	})
	gauge.Set(1)
	return gauge
}
