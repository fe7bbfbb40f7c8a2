package turntest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
)

// TestCertificate returns a self-signed certificate for localhost that is valid for an hour.
func TestCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// ClientSocket returns a client's UDP socket on 127.0.0.1. It is closed at the end of the test.
func ClientSocket(t testing.TB) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// FirstHello returns the first packet of a DTLS client: a ClientHello without a cookie.
func FirstHello(t testing.TB) []byte {
	t.Helper()
	server := ClientSocket(t)
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := dtls.ClientWithOptions(ClientSocket(t), server.LocalAddr(), dtls.WithInsecureSkipVerify(true))
	if err != nil {
		t.Fatal(err)
	}
	var client sync.WaitGroup
	client.Go(func() { _ = conn.HandshakeContext(ctx) })
	defer func() {
		cancel()
		client.Wait()
		_ = conn.Close()
	}()
	buf := make([]byte, 2000)
	n, _, err := server.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}
