package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// connect creates the clients for the authority. It sends nothing.
func (r *run) connect() {
	s := r.settings
	keys := certmagic.StandardKeyGenerator{KeyType: certmagic.P256}
	if s.RSA {
		keys.KeyType = certmagic.RSA2048
	}
	logger := zap.New(toSlog{r.logger})
	r.storage = &certmagic.FileStorage{Path: s.Dir}
	// The cache is for certificates that certmagic presents. It stays empty, so it has nothing to maintain.
	r.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return r.config, nil }, Logger: logger,
	})
	r.config = certmagic.New(r.cache, certmagic.Config{Storage: r.storage, KeySource: keys, Logger: logger})
	template := certmagic.ACMEIssuer{
		CA: s.Directory, Email: s.Email, Agreed: s.AgreeTerms, Profile: s.Profile, NewAccountFunc: r.checkTerms, Logger: logger,
		DisableDistributedSolvers: true, DisableHTTPChallenge: s.Challenge != HTTP01, DisableTLSALPNChallenge: s.Challenge != TLSALPN01,
	}
	if s.EABKeyID != "" {
		template.ExternalAccount = &acme.EAB{KeyID: s.EABKeyID, MACKey: s.EABKey.text}
	}
	if s.Roots != "" {
		template.TrustedRoots = x509.NewCertPool()
		template.TrustedRoots.AppendCertsFromPEM([]byte(s.Roots)) // Decode has checked it
	}
	// certmagic checks whether something answers at the address: see request.
	if host, port, err := net.SplitHostPort(s.Listen); err == nil {
		number, _ := strconv.Atoi(port)
		template.ListenHost, template.AltHTTPPort, template.AltTLSALPNPort = host, number, number
	}
	if s.Challenge == DNS01 {
		template.DNS01Solver = s.DNS
	}
	r.issuer = certmagic.NewACMEIssuer(r.config, template)
	r.config.Issuers = []certmagic.Issuer{r.issuer}
}

// errTerms means that the operator must agree to the terms first.
var errTerms = errors.New("the certificate authority requires that you agree to its terms")

// checkTerms is called before an account is registered (RFC 8555 section 7.3.3). certmagic would agree to any terms.
func (r *run) checkTerms(ctx context.Context, _ *certmagic.ACMEIssuer, account acme.Account) (acme.Account, error) {
	if r.settings.AgreeTerms {
		return account, nil
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	if roots := r.issuer.TrustedRoots; roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	client := acme.Client{Directory: r.settings.Directory, HTTPClient: &http.Client{Transport: transport, Timeout: certmagic.HTTPTimeout}}
	directory, err := client.GetDirectory(ctx)
	if err != nil {
		return account, err
	}
	if directory.Meta != nil && directory.Meta.TermsOfService != "" {
		r.terms = fmt.Errorf("%w: read %s, and add agree_to_terms = true", errTerms, directory.Meta.TermsOfService)
		return account, r.terms // certmagic does not wrap it
	}
	return account, nil
}

// request obtains a certificate for a name, or renews it, and puts it into the storage.
func (r *run) request(ctx context.Context, name string, renew bool) error {
	select {
	case r.one <- struct{}{}:
		defer func() { <-r.one }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.settings.Challenge == HTTP01 {
		// Not certmagic's server: it has no limits, and takes any program on the port for another instance of itself.
		socket, err := new(net.ListenConfig).Listen(ctx, "tcp", r.settings.Listen)
		if err != nil {
			return &portError{r.settings.Listen, err}
		}
		defer answerHTTP(socket)()
	}
	r.terms = nil
	ask := r.config.ObtainCertSync
	if renew {
		ask = func(ctx context.Context, name string) error { return r.config.RenewCertSync(ctx, name, true) }
	}
	if err := ask(ctx, name); r.terms == nil {
		return err
	}
	return r.terms
}
