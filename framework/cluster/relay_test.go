package cluster

import (
	"strings"
	"testing"
)

func TestParseRelay(t *testing.T) {
	const good = `{"name":"one","incarnation":"1","server":"one.example.org","udp":[3478],"secrets":["00"],"weight":1`
	for text, want := range map[string]string{
		good + `}`:                     "",
		good + `,"unknown":{"a":[1]}}`: "", // a later version
		`{"name":"` + strings.Repeat("n", 256) + `","incarnation":"1","server":"s","udp":[1]}`:    "name has 256 bytes",
		`{"name":"one","incarnation":"1","server":"","udp":[3478]}`:                               "server has 0 bytes",
		`{"name":"one","server":"s","udp":[3478]}`:                                                "incarnation has 0 bytes",
		`{"name":"one","incarnation":"1","server":"a:1:x:y","udp":[3478]}`:                        "neither a host name",
		`{"name":"one","incarnation":"1","server":"::1","udp":[3478]}`:                            "neither a host name",
		`{"name":"one","incarnation":"1","server":"s\r\n* OK","udp":[3478]}`:                      "neither a host name",
		`{"name":"one","incarnation":"1","server":"s"}`:                                           "ports",
		`{"name":"one","incarnation":"1","server":"s","tls":[0]}`:                                 "ports",
		`{"name":"one","incarnation":"1","server":"s","udp":[65536]}`:                             "cannot unmarshal",
		`{"name":"one","incarnation":"1","server":"s","udp":[1` + strings.Repeat(",1", 64) + `]}`: "ports",
		good + `,"weight":1001}`:                               "weight is 1001",
		good + `,"weight":-1}`:                                 "weight is -1",
		good + `,"region":"` + strings.Repeat("r", 256) + `"}`: "too long",
		"": "unexpected end", "[]": "cannot unmarshal",
		strings.Repeat(" ", maxAnnouncement+1): "it has 8193 bytes",
	} {
		_, err := parseRelay(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %v, want %q", text, err, want)
		}
	}
}

// FuzzParseRelay checks that what is accepted can be announced again, and that clients can read its host.
func FuzzParseRelay(f *testing.F) {
	f.Add(`{"name":"one","incarnation":"1","server":"one.example.org","udp":[3478],"secrets":["00"],"weight":1}`)
	f.Add(`{"name":"é","incarnation":"1","server":"192.0.2.1","tls":[443],"capacity":-1}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRelay(text)
		if err != nil {
			return
		}
		if strings.ContainsAny(r.Server, ": \r\n\"") {
			t.Errorf("server %q", r.Server)
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(again) <= maxAnnouncement {
			if _, err := parseRelay(again); err != nil {
				t.Fatal(err)
			}
		}
	})
}
