package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// kernelPathVariable is the environment variable that replaces the default of kernel_path in all tests: "on" has the kernel relay, and
// no server starts where it cannot; "off" leaves all calls to the sockets.
const kernelPathVariable = "MAILTURN_KERNEL_PATH"

// withKernelPath returns the arguments with which go build makes a mailturn that has another default of kernel_path. dir is for its
// files.
func withKernelPath(dir, value string) ([]string, error) {
	source, err := filepath.Abs("../../../../endpoint/turn/config.go")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return nil, err
	}
	const tag = `hcl:"kernel_path" default:"auto"`
	if bytes.Count(text, []byte(tag)) != 1 {
		return nil, fmt.Errorf("%s has no %s", source, tag)
	}
	changed, overlay := filepath.Join(dir, "config.go"), filepath.Join(dir, "overlay.json")
	text = bytes.Replace(text, []byte(tag), fmt.Appendf(nil, `hcl:"kernel_path" default:"%s"`, value), 1)
	if err := os.WriteFile(changed, text, 0o600); err != nil {
		return nil, err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		return nil, err
	}
	return []string{"-overlay", overlay}, os.WriteFile(overlay, list, 0o600)
}

// kernelRelays reports whether the kernel relays the calls of a server that root has started.
func kernelRelays() bool {
	return os.Getenv(kernelPathVariable) != "off" && exec.Command(binary, "kernel-path").Run() == nil
}

// completeChecksums makes the sender at an end of a link compute checksums itself, as the network card of a real one does. Otherwise
// nobody would, and the kernel leaves such packets to the sockets.
func (ns namespace) completeChecksums(t *testing.T, link string) {
	t.Helper()
	if out, err := ns.command(peer(t, "ethtool", "ethtool"), "-K", link, "tx", "off").CombinedOutput(); err != nil {
		t.Fatalf("ethtool: %v: %s", err, out)
	}
}

// relayedPackets returns how many packets the relay has relayed, and how many of them the kernel, according to its metrics.
func (n callNetwork) relayedPackets(t *testing.T) (all, kernel uint64) {
	t.Helper()
	metrics, err := n.relay.command(peer(t, "curl", "curl"), "--silent", "--fail", metricsURL+"/metrics").Output()
	if err != nil {
		t.Fatal(err)
	}
	sum := func(name string) (total uint64) {
		for _, match := range regexp.MustCompile(`(?m)^`+name+`\{.*\} (.*)$`).FindAllSubmatch(metrics, -1) {
			value, err := strconv.ParseFloat(string(match[1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			total += uint64(value)
		}
		return total
	}
	return sum("mailturn_turn_relayed_packets_total"), sum("mailturn_turn_kernel_relayed_packets_total")
}

// metricsURL is where the relay of a callNetwork has its HTTP endpoint, in its namespace.
const metricsURL = "http://127.0.0.1:8080"
