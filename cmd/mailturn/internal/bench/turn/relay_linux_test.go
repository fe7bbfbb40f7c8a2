package turn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestRelayIsMeasured puts a little of each kind of load on a pion server in this process.
func TestRelayIsMeasured(t *testing.T) {
	// A server is a process group, and that of go test has other processes, which may end at any time.
	if err := syscall.Setpgid(0, 0); err != nil && syscall.Getpgrp() != os.Getpid() {
		t.Fatal(err)
	}
	pion, at, err := servePion("127.0.0.1:0", "127.0.0.1:0", testCertificate(t), loopback.all())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pion.Close() })
	issuer := credential.Issuer{Secret: credential.NewSecret([]byte(secret)), TTL: time.Hour}
	b := bench{options: options{relay: 100 * time.Millisecond, workers: 2}, network: loopback, credential: issuer.Issue(time.Now()), table: new(report.Table)}
	server := &running{name: pionName, at: at, group: syscall.Getpgrp()}
	for _, r := range relayRows {
		if r.leg == overDTLS {
			continue // pion serves none
		}
		r.Calls = min(r.Calls, 3)
		if err := b.relay(t.Context(), r, server, false); err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		for _, c := range r.columns() {
			if figure, ok := b.table.Figure(c.Name, pionName); !ok || figure <= 0 && c.Ratio || figure < 0 {
				t.Errorf("%s is %v, %v", c.Name, figure, ok)
			}
		}
	}
}

// testCertificate returns a self-signed certificate.
func testCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
