package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestCtlUsage asks what an account has relayed: without usage in the configuration, after a call, after a restart, and after it was
// switched off.
func TestCtlUsage(t *testing.T) {
	r := runRelay(t)
	r.want(t, exitFailure, "usage is not kept: set usage in the control block", "usage")
	kept := r.configuration + "control {\n  usage = \"1h\"\n}\n"
	r.write(t, kept)
	r.want(t, 0, "Applied:\n  control.usage\n", "reload")
	r.want(t, 0, "Nothing was relayed.", "usage")
	for range 2 {
		username, password := r.credential(t, evilAccount)
		client, _ := r.allocate(t, username, password)
		peer, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		if err := client.ChannelBind(t.Context(), 0x4000, peer.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
			t.Fatal(err)
		}
		if err := client.SendChannel(0x4000, make([]byte, 700)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := peer.ReadFrom(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Refresh(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		r.stop()
		r.stop = r.start(t, kept)
	}
	r.want(t, 0, evilPrinted+"  1.4 kB", "usage")
	r.want(t, 0, `"to_peer_packets": 2`, "usage", "--json", "--account", evilAccount)
	r.want(t, 0, "Nothing was relayed.", "usage", "--account", "bob@example.org", "--days", "367")
	r.logged(t, `msg="usage was read"`)
	r.want(t, exitUsage, "want --days from 1 to 367", "usage", "--days", "0")
	file := filepath.Join(r.dir, usageDir, time.Now().UTC().Format(time.DateOnly)+".json")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	r.write(t, r.configuration)
	r.want(t, 0, "Applied:\n  control.usage\n", "reload")
	r.want(t, exitFailure, "usage is not kept", "usage")
	if _, err := os.Stat(filepath.Dir(file)); !os.IsNotExist(err) {
		t.Errorf("switched off: the directory: %v", err)
	}
}
