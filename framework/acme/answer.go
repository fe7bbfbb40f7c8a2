package acme

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"golang.org/x/net/netutil"
)

// AnswerTLS returns the configuration for a handshake with which an authority validates tls-alpn-01 (RFC 8737 section 3), nil for
// any other handshake, and an error if this process has not requested a certificate for that name. It looks only at memory, because
// anybody can begin such a handshake.
func AnswerTLS(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if !slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) {
		return nil, nil
	}
	challenge, ok := certmagic.GetACMEChallenge(hello.ServerName)
	if !ok || challenge.Type != acme.ChallengeTypeTLSALPN01 {
		return nil, fmt.Errorf("no certificate for %q is being requested", hello.ServerName)
	}
	certificate, err := acmez.TLSALPN01ChallengeCert(challenge.Challenge)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{acmez.ACMETLS1Protocol}, Certificates: []tls.Certificate{*certificate},
	}, nil
}

// Limits of the server for http-01. The authority sends a few short requests.
const (
	httpTimeout    = 10 * time.Second
	httpConns      = 128
	httpHeaderSize = 8 << 10
)

// answerHTTP serves http-01 (RFC 8555 section 8.3) on a socket, until stop is called, which also ends open connections.
func answerHTTP(socket net.Listener) (stop func()) {
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			challenge, ok := certmagic.GetACMEChallenge(r.Host)
			if !ok || challenge.Type != acme.ChallengeTypeHTTP01 || r.Method != http.MethodGet || r.URL.Path != challenge.HTTP01ResourcePath() {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = io.WriteString(w, challenge.KeyAuthorization)
		}),
		ReadTimeout: httpTimeout, WriteTimeout: httpTimeout, MaxHeaderBytes: httpHeaderSize,
	}
	server.SetKeepAlivesEnabled(false)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(netutil.LimitListener(socket, httpConns))
	}()
	return func() {
		_ = server.Close()
		<-ended
	}
}
