package shared

import (
	"crypto/tls"
	"testing"
)

func BenchmarkReadHello(b *testing.B) {
	hello := helloBytes(b, &tls.Config{ServerName: "mail.example.org", NextProtos: []string{"imap"}})
	b.ReportAllocs()
	for b.Loop() {
		if h, err := readHello(&pieces{rest: hello}, func() {}); err != nil || h.name != "mail.example.org" {
			b.Fatal(err)
		}
	}
}
