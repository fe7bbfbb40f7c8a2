package listen

import (
	"strings"
	"testing"
)

func TestUnmarshalText(t *testing.T) {
	for _, tt := range []struct {
		text    string
		want    Addr
		wantErr string
	}{
		{"tls://0.0.0.0:993", Addr{"tls", "0.0.0.0", 993}, ""},
		{"TCP://localhost:143", Addr{"tcp", "localhost", 143}, ""},
		{"udp://[2001:db8::1]:3478", Addr{"udp", "2001:db8::1", 3478}, ""},
		{"udp://:3478", Addr{"udp", "", 3478}, ""},
		{"udp://*:3478", Addr{"udp", "", 3478}, ""},
		{"0.0.0.0:993", Addr{}, "such as tcp://0.0.0.0:993"},
		{"tls://0.0.0.0", Addr{}, "missing port"},
		{"tls://2001:db8::1:993", Addr{}, "brackets"},
		{"tls://0.0.0.0:99999", Addr{}, "1 to 65535"},
		{"tls://0.0.0.0:imaps", Addr{}, "1 to 65535"},
		{"tls://0.0.0.0/x:993", Addr{}, "host name"},
		{"", Addr{}, "no scheme"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			var got Addr
			err := got.UnmarshalText([]byte(tt.text))
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("got error %v, want one with %q", err, tt.wantErr)
			}
		})
	}
}

func TestStringParsesBack(t *testing.T) {
	for _, text := range []string{"tls://0.0.0.0:993", "udp://[2001:db8::1]:3478", "tcp://localhost:143", "tcp://:143"} {
		var a Addr
		if err := a.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if a.String() != text {
			t.Errorf("got %q, want %q", a, text)
		}
	}
}

func TestUnspecified(t *testing.T) {
	for host, want := range map[string]bool{"": true, "0.0.0.0": true, "::": true, "127.0.0.1": false, "localhost": false} {
		if got := (Addr{"udp", host, 1}).Unspecified(); got != want {
			t.Errorf("%s: got %v, want %v", host, got, want)
		}
	}
}
