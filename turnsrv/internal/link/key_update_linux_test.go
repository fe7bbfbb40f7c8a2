package link

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailturn/mailturn/turnsrv/internal/count"
	"github.com/mailturn/mailturn/turnsrv/internal/loop"
	"github.com/mailturn/mailturn/turnsrv/internal/session"
	"github.com/mailturn/mailturn/turnsrv/internal/turntest"
)

// trafficKeys are the keys of one direction of TLS 1.3 with TLS_AES_128_GCM_SHA256, RFC 8446 section 7. crypto/tls sends no
// KeyUpdate of its own.
type trafficKeys struct {
	t      *testing.T
	secret []byte
	number byte
}

// expand is HKDF-Expand-Label, RFC 8446 section 7.1.
func (k *trafficKeys) expand(label string, n int) []byte {
	full := "tls13 " + label
	info := append(binary.BigEndian.AppendUint16(nil, uint16(n)), byte(len(full)))
	out, err := hkdf.Expand(sha256.New, k.secret, string(append(append(info, full...), 0)), n)
	if err != nil {
		k.t.Fatal(err)
	}
	return out
}

// seal returns a record with content of the given type.
func (k *trafficKeys) seal(kind byte, content []byte) []byte {
	iv := k.expand("iv", 12)
	iv[11] ^= k.number
	k.number++
	block, err := aes.NewCipher(k.expand("key", 16))
	if err != nil {
		k.t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		k.t.Fatal(err)
	}
	header := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(content)+1+aead.Overhead()))
	return aead.Seal(header, iv, append(bytes.Clone(content), kind), header)
}

// update returns a KeyUpdate that requests one from the server, RFC 8446 section 4.6.3.
func (k *trafficKeys) update() []byte {
	const handshake, keyUpdate, updateRequested = 22, 24, 1
	record := k.seal(handshake, []byte{keyUpdate, 0, 0, 1, updateRequested})
	*k = trafficKeys{t: k.t, secret: k.expand("traffic upd", 32)}
	return record
}

// data returns a record of application data.
func (k *trafficKeys) data(b []byte) []byte { return k.seal(23, b) }

// TestLoopLimitsKeyUpdates sends requests for new keys. A few are answered. A flood of them, whose answers the client does not
// read, must end the connection.
func TestLoopLimitsKeyUpdates(t *testing.T) {
	on, err := loop.New(loop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{}, 10)
	var c count.Counters
	l, h := NewStreams(10, on, &c), new(loopHandler)
	h.handle = func(_ []byte, from session.Client) {
		l.Allocated(from, true)
		select {
		case heard <- struct{}{}:
		default:
		}
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		_ = l.Serve(NewTLSListener(listener, &tls.Config{Certificates: []tls.Certificate{turntest.TestCertificate(t)}}), h, func(error) {})
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
		on.Close()
	})
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	var log bytes.Buffer
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &log, MinVersion: tls.VersionTLS13})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	if suite := conn.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatalf("the cipher suite is %s", tls.CipherSuiteName(suite))
	}
	keys := trafficKeys{t: t}
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			keys.secret, _ = hex.DecodeString(f[2])
		}
	}
	send := func(updates int) error {
		b := keys.data(binding())
		for i := range updates {
			if b = append(b, keys.update()...); i%15 == 14 {
				b = append(b, keys.data(binding())...) // crypto/tls allows 16 records in a row without data
			}
		}
		_, err := raw.Write(append(b, keys.data(binding())...))
		return err
	}
	if err := send(10); err != nil {
		t.Fatal(err)
	}
	<-heard
	<-heard
	if err := send(1000); err == nil {
		for err == nil {
			_, err = raw.Read(make([]byte, 4096))
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection goes on after 1,000 requests for new keys")
		}
	}
}
