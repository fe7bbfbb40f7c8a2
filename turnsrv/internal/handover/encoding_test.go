package handover

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden file of the newest version, which must not exist")

// example is a state in which every field has a value of its own.
func example() *State {
	client, server := netip.MustParseAddrPort("192.0.2.9:5000"), netip.MustParseAddrPort("198.51.100.1:3478")
	peer, peer6 := netip.MustParseAddrPort("203.0.113.5:40000"), netip.MustParseAddrPort("[2001:db8::5]:40001")
	at := time.Unix(1_800_000_000, 123456789)
	allocation := func(stream, account, descriptor int) Allocation {
		return Allocation{
			Stream: stream, Client: client, Server: server,
			Username: "1800003600:alice", Realm: "example.org", Subject: Subject{Name: "alice", Realm: "example.org", Anonymous: true},
			Key: []byte("0123456789abcdef"), Expires: at.Add(time.Hour), Withdrawn: -time.Minute, WasWithdrawn: true,
			Made: [12]byte{1, 2, 3}, Response: []byte("response"), Since: at.Add(-time.Hour), Heard: -time.Second,
			Account: account, Requests: 42, Rates: [2]Rates{{1, 2, 3}, {4, 5, 6}}, Silent: Spending{-time.Second, 1000},
			Relaying: true, Relayed: 77, Active: 59 * time.Minute,
			Addresses: []Address{{
				Descriptor: descriptor, Relayed: netip.MustParseAddrPort("198.51.100.1:50000"), Expires: 10 * time.Minute,
				DontFragment: true, Reserved: []byte("12345678"), ToPeer: Traffic{10, 1000}, ToClient: Traffic{20, 2000},
				Dropped: []Counter{{"bandwidth", 3}},
			}, {Descriptor: descriptor + 1, Relayed: netip.MustParseAddrPort("[2001:db8::1]:50001"), Expires: 9 * time.Minute}},
			Permissions: []Permission{{peer.Addr(), 4 * time.Minute, true, Spending{}}, {peer6.Addr(), -time.Second, false, Spending{-2 * time.Second, 168}}},
			Channels:    []Channel{{0x4000, peer, 9 * time.Minute}, {0x7fff, peer6, time.Minute}},
		}
	}
	return &State{
		At: at, Clock: time.Hour, NonceKey: bytes.Repeat([]byte{7}, 32), NonceClock: at.Add(-time.Minute), Paused: true, Throttles: [2]int64{11, 12},
		Counters: []Counter{{"made", 1 << 40}, {"ended/expired", 5}},
		Accounts: []Account{{[2]int64{8, 9}}, {}},
		Links: []Link{
			{Cookie: 1<<63 + 5, Allocations: []Allocation{allocation(-1, 0, 0)}},
			{Listener: server, Streams: []Stream{{
				Descriptor: 2, Client: client, Server: server, ServerName: "turn.example.org", Begun: true,
				Partial: []byte{0x40, 0}, Output: []byte("output"),
			}}, Allocations: []Allocation{allocation(0, 1, 3)}},
			{Cookie: 1<<63 + 5, Listener: server, DTLS: true, Associations: []Association{{
				Client: client, Server: server, Suite: 0xC02B, WriteKey: []byte("0123456789abcdef"), WriteIV: []byte("0123"),
				ReadKey: []byte("fedcba9876543210"), ReadIV: []byte("3210"), Next: 1<<48 - 1, Received: 1 << 40, Window: 1<<64 - 1,
				Flight: []byte("finished"),
			}}, Allocations: []Allocation{allocation(0, 1, 5)}},
		},
		Reservations: []Reservation{{[]byte("12345678"), 5, netip.MustParseAddrPort("198.51.100.1:50001"), 20 * time.Second, true}},
	}
}

func golden(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("version%d.state", version))
}

// TestGolden checks that the states of all versions are still read, and that the newest version is still written as it was: a
// process of another release reads it.
func TestGolden(t *testing.T) {
	if *update {
		b, err := Encode(example(), Version)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden(Version), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for version := OldestVersion; version <= Version; version++ {
		want, err := os.ReadFile(golden(version))
		if err != nil {
			t.Fatal(err)
		}
		state, err := Decode(want)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if version == Version && !reflect.DeepEqual(state, example()) {
			t.Errorf("version %d: got  %+v\nwant %+v", version, state, example())
		}
		got, err := Encode(state, version)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("version %d is written as %d bytes that differ from the %d of the file, %v", version, len(got), len(want), err)
		}
	}
}

// TestDamaged checks that a state is refused if any byte of it is missing or wrong.
func TestDamaged(t *testing.T) {
	whole, err := Encode(example(), Version)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("empty: %v", err)
	}
	if _, err := Decode(append(bytes.Clone(whole), 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte too many: %v", err)
	}
	for i := range whole {
		if _, err := Decode(whole[:i]); !errors.Is(err, ErrDamaged) {
			t.Errorf("the first %d bytes: %v", i, err)
		}
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x10
		if _, err := Decode(damaged); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

func TestUnknownVersion(t *testing.T) {
	b, err := Encode(example(), Version)
	if err != nil {
		t.Fatal(err)
	}
	b[len(magic)] = Version + 1
	if _, err := Decode(b); !errors.Is(err, ErrVersion) {
		t.Errorf("version %d is read: %v", Version+1, err)
	}
	for _, version := range []int{OldestVersion - 1, Version + 1} {
		if _, err := Encode(example(), version); !errors.Is(err, ErrVersion) {
			t.Errorf("version %d is written: %v", version, err)
		}
	}
}

// FuzzState decodes bodies with a valid header, and checks that what was decoded is encoded to the same values.
func FuzzState(f *testing.F) {
	for version := OldestVersion; version <= Version; version++ {
		b, err := os.ReadFile(golden(version))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(version), b[headerLen:])
	}
	f.Add(byte(Version), []byte{})
	f.Fuzz(func(t *testing.T, version byte, body []byte) {
		if version < OldestVersion || version > Version {
			version = Version
		}
		sealed := append(make([]byte, headerLen), body...)
		seal(sealed, int(version))
		state, err := Decode(sealed)
		if err != nil {
			return
		}
		b, err := Encode(state, int(version))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(b)
		if err != nil || !reflect.DeepEqual(state, again) {
			t.Fatalf("decoded %+v, then %+v, %v", state, again, err)
		}
	})
}
