package main

import (
	"strings"
	"testing"
	"time"
)

// TestStatusOfKernelPath checks that the status does not say that the kernel relays where it has nothing to relay.
func TestStatusOfKernelPath(t *testing.T) {
	for want, relay := range map[string]relayReport{
		"clients, kernel path ready (channels: 0)\n":           {KernelPath: true},
		"clients, kernel path ready (channels: 2)\n":           {KernelPath: true, KernelChannels: 2},
		"clients, kernel path not in use: permission denied\n": {KernelProblem: "permission denied"},
		"clients\n": {},
	} {
		var printed strings.Builder
		statusReport{Endpoints: []endpointReport{{Kind: "turn", Name: "turn", Relay: &relay}}}.writeTo(&printed, time.Now())
		if !strings.HasSuffix(printed.String(), want) {
			t.Errorf("got %q, want %q at its end", &printed, want)
		}
	}
}
