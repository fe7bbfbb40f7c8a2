package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
)

// TestSmallKernelSettings reads the settings of several kernels at start.
func TestSmallKernelSettings(t *testing.T) {
	const public, loopback = "0.0.0.0:3478", "127.0.0.1:3478"
	raised := map[string]string{
		"net/core/rmem_max": "4194304", "net/core/wmem_max": "1048576", "net/ipv4/ip_local_port_range": "32768\t60999",
		"net/ipv4/ip_local_reserved_ports": "49152-65535", "net/netfilter/nf_conntrack_count": "10", "net/netfilter/nf_conntrack_max": "262144",
	}
	for _, tt := range []struct {
		name, listen string
		settings     map[string]string // in place of those above
		want         []string
	}{
		{"raised", public, nil, nil},
		{"Debian's default on a small machine", public, map[string]string{
			"net/core/rmem_max": "212992", "net/core/wmem_max": "212992", "net/ipv4/ip_local_reserved_ports": "", "net/netfilter/nf_conntrack_max": "8192",
		}, []string{
			"net.core.rmem_max is 212992, want 4194304; net.core.wmem_max is 212992, want 1048576; ",
			"net.netfilter.nf_conntrack_max is 8192, want 40000 or the rules of mailturn export nftables; ",
			"net.ipv4.ip_local_reserved_ports lacks 49152-60999 of relay_ports",
		}},
		{"one", public, map[string]string{"net/core/wmem_max": "212992"}, []string{`settings="net.core.wmem_max is 212992, want 1048576"`}},
		{"connections are not tracked", public, map[string]string{"net/netfilter/nf_conntrack_count": "", "net/netfilter/nf_conntrack_max": "8192"}, nil},
		{"nothing is shown", public, map[string]string{"net/core/rmem_max": "", "net/core/wmem_max": "", "net/ipv4/ip_local_port_range": "", "net/netfilter/nf_conntrack_max": ""}, nil},
		{"a relay for this machine alone", loopback, map[string]string{"net/core/rmem_max": "212992"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settings := make(fstest.MapFS)
			for name, value := range raised {
				if other, ok := tt.settings[name]; ok {
					value = other
				}
				settings[name] = &fstest.MapFile{Data: []byte(value + "\n")}
			}
			s := decodeText(t, fmt.Sprintf("hostname = \"example.org\"\nendpoint \"turn\" \"turn\" {\n  listen = \"udp://%s\"\n  relay_ip = \"198.51.100.1\"\n}\n", tt.listen))
			var out bytes.Buffer
			s.checkKernel(settings, slog.New(slog.NewTextHandler(&out, nil)))
			if lines := strings.Count(out.String(), "\n"); lines != min(len(tt.want), 1) {
				t.Errorf("%d lines:\n%s", lines, &out)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, &out)
				}
			}
		})
	}
}
