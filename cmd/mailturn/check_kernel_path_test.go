package main

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestCheckKernelPath checks what check-config says about kernel_path on several machines.
func TestCheckKernelPath(t *testing.T) {
	yes, no := func() (bool, error) { return true, nil }, func() (bool, error) { return false, nil }
	works, fails := func() error { return nil }, func() error { return errors.New("this system is too old") }
	granted := unit{user: "mailturn", capabilities: "cap_net_bind_service cap_net_admin cap_bpf", loaded: true}
	for _, tt := range []struct {
		name, value string
		system      kernelPathSystem
		unit        unit
		want        []string
	}{
		{"nothing is missing", "on", kernelPathSystem{true, works, no, nil}, granted, nil},
		{"an old kernel", "on", kernelPathSystem{true, fails, no, nil}, granted, []string{"the kernel of this machine cannot relay calls: this system is too old."}},
		{"without the drop-in", "on", kernelPathSystem{true, works, no, nil}, unit{user: "mailturn", capabilities: "cap_net_bind_service", loaded: true}, []string{"mailturn will not start"}},
		{"half of the drop-in", "on", kernelPathSystem{true, works, no, nil}, unit{user: "mailturn", capabilities: "cap_net_admin", loaded: true}, []string{"mailturn will not start"}},
		{"a unit that runs as root", "on", kernelPathSystem{true, works, no, nil}, unit{user: "root", loaded: true}, nil},
		{"no unit", "on", kernelPathSystem{true, works, no, nil}, unit{user: "mailturn"}, nil},
		{"NAT", "on", kernelPathSystem{true, works, yes, nil}, granted, []string{`counts them as "unproven"`}},
		{"an ordinary user", "on", kernelPathSystem{false, fails, yes, nil}, unit{}, nil},
		{"auto", "auto", kernelPathSystem{true, fails, yes, nil}, unit{user: "mailturn", loaded: true}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.system.unit = func(context.Context) unit { return tt.unit }
			x := examination{kernel: tt.system, setup: decodeText(t, "hostname = \"example.org\"\nendpoint \"turn\" \"turn\" {\n  relay_ip = \"198.51.100.1\"\n  kernel_path = \""+tt.value+"\"\n}\n")}
			diags := x.checkKernelPath(t.Context())
			if len(diags) != len(tt.want) {
				t.Errorf("%d warnings, want %d: %v", len(diags), len(tt.want), diags)
			}
			for i, want := range tt.want {
				if i < len(diags) && !strings.Contains(diags[i].Detail, want) {
					t.Errorf("%q, want %q", diags[i].Detail, want)
				}
			}
		})
	}
}
