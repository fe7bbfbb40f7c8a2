package soak

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv"
	"github.com/mailturn/mailturn/turnsrv/credential"
	"github.com/mailturn/mailturn/turnsrv/peer"
	"github.com/mailturn/mailturn/turnsrv/relay"
)

// receiveBuffer is the receive buffer requested for UDP sockets, in bytes, as in an endpoint. The system may grant less.
const receiveBuffer = 4 << 20

var loopback = netip.MustParseAddr("127.0.0.1")

// server is a TURN server on free ports of loopback, with UDP and DTLS on one of them.
type server struct {
	*turnsrv.Server
	udp, tcp, tls netip.AddrPort
	credential    credential.Credential

	allocator *relay.Allocator
	serving   sync.WaitGroup
	mu        sync.Mutex
	failures  []error
}

// startServer starts a server that relays to addresses of loopback.
func startServer(lifetime time.Duration) (*server, error) {
	certificate, err := makeCertificate()
	if err != nil {
		return nil, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	allocator, err := relay.New(relay.Config{
		Addresses: []relay.Address{{Bind: loopback, Advertise: loopback}},
		Peers:     peer.New(peer.Rules{Allow: []netip.Prefix{netip.PrefixFrom(loopback, 32)}}),
	})
	if err != nil {
		return nil, err
	}
	secret := credential.NewSecret([]byte("a secret of the soak"))
	s := &server{
		allocator:  allocator,
		credential: credential.Issuer{Secret: secret, TTL: 24 * time.Hour}.Issue(time.Now()),
	}
	s.Server, err = turnsrv.New(turnsrv.Config{
		Realm: "example.org", Authenticator: credential.Verifier{Secrets: []credential.Secret{secret}}, Relay: allocator,
		Lifetime: lifetime, MaxLifetime: lifetime,
	})
	if err != nil {
		return nil, errors.Join(err, allocator.Close())
	}
	packets, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	if err := packets.SetReadBuffer(receiveBuffer); err != nil {
		return nil, errors.Join(err, packets.Close(), s.stop())
	}
	s.udp = packets.LocalAddr().(*net.UDPAddr).AddrPort()
	s.serve(func() error { return s.ServeDTLS(packets, config, true) })
	for _, addr := range []*netip.AddrPort{&s.tcp, &s.tls} {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(err, s.stop())
		}
		*addr = listener.Addr().(*net.TCPAddr).AddrPort()
		if addr == &s.tls {
			listener = turnsrv.NewTLSListener(listener, config)
		}
		s.serve(func() error { return s.ServeStream(listener) })
	}
	return s, nil
}

func (s *server) serve(f func() error) {
	s.serving.Go(func() {
		if err := f(); !errors.Is(err, turnsrv.ErrServerClosed) {
			s.mu.Lock()
			s.failures = append(s.failures, err)
			s.mu.Unlock()
		}
	})
}

// stop ends the server and returns the errors of its listeners.
func (s *server) stop() error {
	err := errors.Join(s.Close(), s.allocator.Close())
	s.serving.Wait()
	return errors.Join(err, errors.Join(s.failures...))
}

func makeCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// startEcho starts a peer that sends everything back.
func startEcho() (*net.UDPConn, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadBuffer(receiveBuffer); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
			}
		}
	}()
	return conn, nil
}
