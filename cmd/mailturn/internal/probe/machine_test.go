package probe

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// TestConntrack has the kernel track connections on the machine that is probed.
func TestConntrack(t *testing.T) {
	here := []Name{{Name: "localhost", IPv4: Family{Addresses: []Address{{Address: "127.0.0.1"}}}}}
	works := []Relay{{RelayedAddr: "198.51.100.1:50000"}}
	for _, tt := range []struct {
		name    string
		names   []Name
		relays  []Relay
		entries int // of 1000; -1 if the kernel tracks none
		want    Status
		text    string
	}{
		{"some", here, works, 800, OK, "This machine's kernel tracks 800 of at most 1000 connections."},
		{"nearly full", here, works, 801, Warning, "when the table is full, it drops"},
		{"full, although the relay works", here, works, 1000, Warning, "tracks 1000 of at most 1000 connections"},
		{"full", here, []Relay{{Stage: "binding"}}, 1000, Failure, "the table is full, so it drops"},
		{"full before the relay was found", here, nil, 1000, Failure, "the table is full, so it drops"},
		{"nearly full, and the relay fails", here, nil, 900, Warning, "when the table is full"},
		{"not tracked", here, works, -1, "", ""},
		{"another machine", []Name{{Name: "mail.example.org", IPv4: Family{Addresses: []Address{{Address: "203.0.113.7"}}}}}, works, 1000, "", ""},
		{"nothing was looked up", nil, nil, 1000, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kernel := make(fstest.MapFS)
			if tt.entries >= 0 {
				kernel["net/netfilter/nf_conntrack_count"] = &fstest.MapFile{Data: []byte(strconv.Itoa(tt.entries))}
				kernel["net/netfilter/nf_conntrack_max"] = &fstest.MapFile{Data: []byte("1000\n")}
			}
			r := newRun(Options{Kernel: kernel})
			r.report.Names, r.report.Relays = tt.names, tt.relays
			r.judgeMachine(t.Context())
			if tt.want == "" {
				if len(r.report.Checks) > 0 || r.report.Conntrack != nil {
					t.Errorf("got %+v, %v", r.report.Checks, r.report.Conntrack)
				}
				return
			}
			if len(r.report.Checks) != 1 || r.report.Conntrack == nil || r.report.Conntrack.Entries != tt.entries {
				t.Fatalf("got %+v, %v", r.report.Checks, r.report.Conntrack)
			}
			c := r.report.Checks[0]
			if c.ID != "machine.conntrack" || c.Status != tt.want || !strings.Contains(c.Summary, tt.text) || (c.Action == "") != (tt.want == OK) {
				t.Errorf("got %+v, want %s: %s", c, tt.want, tt.text)
			}
			// It explains what else has failed.
			r.report.add("turn.udp", "", Failure, "no relay at 198.51.100.1:3478 UDP: no answer.", "")
			if v := r.report.judge(); strings.Contains(v.Text, "the table is full") != (tt.want == Failure) {
				t.Errorf("the verdict is %q", v.Text)
			}
		})
	}
}

// TestKernelPath checks what is said about the kernel path of the server on this machine.
func TestKernelPath(t *testing.T) {
	here := []Name{{Name: "localhost", IPv4: Family{Addresses: []Address{{Address: "127.0.0.1"}}}}}
	paths := []KernelPath{{Endpoint: "one", Used: true}, {Endpoint: "two", Problem: "permission denied"}, {Endpoint: "three"}}
	r := newRun(Options{Kernel: make(fstest.MapFS), KernelPaths: func(context.Context) []KernelPath { return paths }})
	r.judgeMachine(t.Context())
	if len(r.report.Checks) > 0 {
		t.Errorf("another machine: %+v", r.report.Checks)
	}
	r.report.Names = here
	r.judgeMachine(t.Context())
	want := []Check{
		{ID: "machine.kernel_path", Subject: "one", Status: OK, Summary: "The kernel relays calls."},
		{ID: "machine.kernel_path", Subject: "two", Status: Note, Summary: "Sockets relay all calls, because the kernel path is not available: permission denied."},
	}
	if !slices.Equal(r.report.Checks, want) || !slices.Equal(r.report.KernelPath, paths[:2]) {
		t.Errorf("got %+v\nand %+v\nwant %+v", r.report.Checks, r.report.KernelPath, want)
	}
}
