package main

import (
	"net"
	"testing"
	"time"
)

// TestCtlWho asks who held a port: while a call goes on, after it, and without a record.
func TestCtlWho(t *testing.T) {
	r := runRelay(t)
	r.want(t, exitFailure, "nothing is recorded: set record in the control block", "who", "50000", "now")
	const recorded = "control {\n  record = \"1h\"\n}\n"
	r.write(t, r.configuration+recorded)
	r.want(t, 0, "Applied:\n  control.record\n", "reload")

	username, password := r.credential(t, evilAccount)
	client, relayed := r.allocate(t, username, password)
	peer, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if err := client.ChannelBind(t.Context(), 0x4000, peer.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		t.Fatal(err)
	}
	if err := client.SendChannel(0x4000, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := peer.ReadFrom(make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}
	const printed = evilPrinted + "  "
	r.want(t, 0, printed, "who", relayed.String(), "now")
	if _, err := client.Refresh(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Format(time.RFC3339)
	port := relayed.String()[len("127.0.0.1:"):]
	r.want(t, 0, printed, "who", port, at)
	r.want(t, 0, `"to_peer_packets": 1`, "who", port, at, "--json")
	r.want(t, 0, "nobody who held 127.0.0.2:"+port, "who", "127.0.0.2:"+port, at)
	r.want(t, 0, "nobody who held "+port, "who", port, "2026-11-01T00:00:00Z")
	r.want(t, 0, "The record begins only at ", "who", port, "2026-11-01T00:00:00Z")
	r.logged(t, `msg="record of calls was read"`)
	r.want(t, exitUsage, "want PORT and TIME", "who", port)
	r.want(t, exitUsage, "put a TIME with a space in quotes", "who", port, "2026-11-30", "14:05")
	r.want(t, exitUsage, `TIME "yesterday": want one such as`, "who", port, "yesterday")
	r.want(t, exitFailure, `port "70000": want a number from 1 to 65535`, "who", "70000", at)
	r.want(t, exitFailure, `duration "25h0m0s": want one of at most 24h0m0s`, "who", port, at, "--within", "25h")
	r.write(t, r.configuration)
	r.want(t, 0, "Applied:\n  control.record\n", "reload")
	r.want(t, exitFailure, "nothing is recorded", "who", port, at)
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("there", 2*60*60)
	now := time.Date(2026, 11, 30, 16, 0, 0, 0, zone)
	want := time.Date(2026, 11, 30, 14, 5, 0, 0, zone)
	for _, text := range []string{
		"2026-11-30T14:05:00+02:00", "2026-11-30T12:05:00Z", "2026-11-30 12:05:00Z", "2026-11-30T14:05", "2026-11-30 14:05", "2026-11-30 14:05:00",
		"2026-11-30 13:05:00 +0100", "Mon, 30 Nov 2026 12:05:00 +0000",
	} {
		if got, err := parseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	if got, err := parseTime("now", now); err != nil || got != now {
		t.Errorf("now: got %v, %v", got, err)
	}
	for _, text := range []string{"", "14:05", "2026-11-31 14:05", "2026-11-30 14:05 CET"} {
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
