package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/mailturn/mailturn/endpoint/credsock"
	"github.com/mailturn/mailturn/endpoint/dict"
	"github.com/mailturn/mailturn/endpoint/http"
	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/endpoint/shared"
	"github.com/mailturn/mailturn/endpoint/turn"
	"github.com/mailturn/mailturn/framework/acme"
	"github.com/mailturn/mailturn/framework/certs"
	"github.com/mailturn/mailturn/framework/cluster"
	"github.com/mailturn/mailturn/framework/config"
	"github.com/mailturn/mailturn/framework/handoff"
	"github.com/mailturn/mailturn/framework/log"
	"github.com/mailturn/mailturn/framework/module"
	"github.com/mailturn/mailturn/framework/privacy"
	"github.com/mailturn/mailturn/framework/socket"
	"github.com/mailturn/mailturn/framework/systemd"
	"github.com/mailturn/mailturn/turnsrv/ban"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

// setup is a configuration that was decoded and checked, with its endpoints linked.
type setup struct {
	file     *config.File
	hostname string
	stateDir string // empty when nobody says where
	log      config.Log
	logLevel slog.Level // log.Level
	control  config.Control
	privacy  privacy.Settings
	// controlAt is the socket of control, if it is enabled.
	controlAt socket.Config
	relays    []turn.Config
	imaps     []imap.Config
	sockets   []credsock.Config
	dicts     []dict.Config
	http      []http.Config
	names     issuer.AccountNames
	cluster   cluster.Settings
	acme      *acme.Settings // nil if no certificate comes from an authority
	ports     []shared.Config

	// process is the state of the rest of the process for the HTTP endpoints; newService sets it.
	process http.Process
}

// parts returns the endpoints, a relay before those that issue credentials for it: clients must not be told about a relay that does
// not listen yet, or get a credential with a secret that it does not accept yet.
func (s *setup) parts() []module.Part {
	var parts []module.Part
	for _, c := range s.relays {
		parts = append(parts, module.NewPart("turn", c.Name, turn.Schema{}, c, newRelay))
	}
	for _, c := range s.imaps {
		parts = append(parts, module.NewPart("imap", c.Name, imap.Schema{}, c, imap.New))
	}
	for _, c := range s.sockets {
		parts = append(parts, module.NewPart("credsock", c.Name, credsock.Schema{}, c, credsock.New))
	}
	for _, c := range s.dicts {
		parts = append(parts, module.NewPart("dict", c.Name, dict.Schema{}, c, dict.New))
	}
	for _, c := range s.http {
		construct := func(c http.Config, logger *slog.Logger) (*http.Endpoint, error) {
			return http.New(c, s.process, logger)
		}
		parts = append(parts, module.NewPart("http", c.Name, http.Schema{}, c, construct))
	}
	return parts
}

// issuers returns the issuer configurations of the endpoints, which may be changed in place.
func (s *setup) issuers() []*issuer.Config {
	var issuers []*issuer.Config
	for i := range s.imaps {
		issuers = append(issuers, &s.imaps[i].TURN.Config)
	}
	for i := range s.sockets {
		issuers = append(issuers, &s.sockets[i].Issuer)
	}
	for i := range s.dicts {
		issuers = append(issuers, &s.dicts[i].TURN)
	}
	for i := range s.http {
		if s.http[i].Issues() {
			issuers = append(issuers, &s.http[i].TURN)
		}
	}
	return issuers
}

// advertisement is what clients are told of one relay.
type advertisement struct {
	*issuer.Config
	inBlock bool // one of several, in a relay block
}

func (s *setup) advertisements() (all []advertisement) {
	for _, c := range s.issuers() {
		if len(c.Relays) == 0 {
			all = append(all, advertisement{c, false})
		}
		for i := range c.Relays {
			all = append(all, advertisement{&c.Relays[i].Config, true})
		}
	}
	return all
}

// decode decodes a file into a setup. It opens no socket and creates no file. stateDir, if not empty, overrides the file's.
func decode(file *config.File, stateDir string) (*setup, hcl.Diagnostics) {
	s := &setup{file: file, hostname: file.Hostname.V, stateDir: cmp.Or(stateDir, config.Path(file.StateDir), defaultStateDir())}
	var diags hcl.Diagnostics
	diags = append(diags, s.decodeLog(file.Log)...)
	diags = append(diags, s.decodeControl(file.Control)...)
	diags = append(diags, s.decodePrivacy(file.Privacy)...)
	var certificates []certs.Pair
	if file.TLS != nil {
		pairs, tlsDiags := certs.DecodeAll([]config.TLS{*file.TLS}, nil)
		certificates, diags = pairs, append(diags, tlsDiags...)
	}

	for _, endpoint := range file.Endpoints {
		if endpoint.Kind != "turn" {
			continue
		}
		relay, relayDiags := turn.Decode(endpoint, turn.Defaults{Hostname: file.Hostname.V, TLS: certificates})
		diags = append(diags, relayDiags...)
		s.relays = append(s.relays, relay)
	}
	if len(certificates) == 0 && len(s.relays) > 0 {
		certificates = s.relays[0].TLS
	}
	for _, endpoint := range file.Endpoints {
		switch endpoint.Kind {
		case "imap":
			server, serverDiags := imap.Decode(endpoint, imap.Defaults{Hostname: file.Hostname.V, TLS: certificates})
			diags = append(diags, serverDiags...)
			s.imaps = append(s.imaps, server)
		case "credsock":
			door, doorDiags := credsock.Decode(endpoint)
			diags = append(diags, doorDiags...)
			s.sockets = append(s.sockets, door)
		case "dict":
			door, doorDiags := dict.Decode(endpoint, file.Hostname.V)
			diags = append(diags, doorDiags...)
			s.dicts = append(s.dicts, door)
		case "http":
			server, serverDiags := http.Decode(endpoint, http.Defaults{Hostname: file.Hostname.V, TLS: certificates})
			diags = append(diags, serverDiags...)
			s.http = append(s.http, server)
		case "turn":
		default:
			diags = append(diags, config.Errorf(endpoint.KindRange, "Unknown kind of endpoint",
				"mailturn has no endpoint %q: want turn, imap, credsock, dict or http.", endpoint.Kind))
		}
	}
	diags = append(diags, s.checkGuesses(file.Privacy)...)
	names, namesDiags := issuer.DecodeAccountNames(file.Accounts)
	diags = append(diags, namesDiags...)
	s.names = names
	for _, c := range s.issuers() {
		c.Names = names
	}
	if len(file.Endpoints) == 0 && !diags.HasErrors() {
		diags = append(diags, config.WithHint(config.Errorf(hcl.Range{Filename: file.Name}, "No endpoint", "The file configures no endpoint."),
			`add an endpoint "imap" and an endpoint "turn", as maddy.conf.example has them`))
	}
	if diags.HasErrors() {
		return s, diags
	}
	diags = append(diags, s.link()...)
	diags = append(diags, s.decodeCluster(file.Cluster)...)
	diags = append(diags, s.decodeACME(file.TLS)...)
	diags = append(diags, s.decodeSharedPorts(file.SharedPorts)...)
	return s, append(diags, s.checkOverlaps()...)
}

// decodeLog checks the log block.
func (s *setup) decodeLog(c config.Log) (diags hcl.Diagnostics) {
	s.log = c
	var err error
	if s.logLevel, err = log.Level(c.Level.V); err != nil {
		diags = append(diags, config.Errorf(c.Level.Range, "Unknown log level", "%v.", err))
	}
	if _, err := log.New(io.Discard, s.logLevel, c.Format.V); err != nil {
		diags = append(diags, config.Errorf(c.Format.Range, "Unknown log format", "%v.", err))
	}
	return diags
}

// link links the endpoints that issue credentials with the first TURN endpoint, and makes that listen on the ports that they
// advertise.
func (s *setup) link() hcl.Diagnostics {
	if len(s.relays) > 0 {
		for _, advertised := range s.issuers() {
			for _, port := range advertised.LocalPorts() {
				s.relays[0].ListenAlso(port)
			}
			var udp uint16
			if ports := s.relays[0].Ports("udp"); len(ports) > 0 {
				udp = ports[0]
			}
			for _, port := range advertised.PreferredPorts(udp) {
				s.relays[0].ListenTLS(port)
			}
		}
	}
	relay := s.relay()
	var diags hcl.Diagnostics
	for i := range s.imaps {
		diags = append(diags, s.imaps[i].LinkTURN(relay)...)
	}
	for i := range s.sockets {
		diags = append(diags, s.sockets[i].LinkTURN(relay)...)
	}
	for i := range s.dicts {
		diags = append(diags, s.dicts[i].LinkTURN(relay)...)
	}
	for i := range s.http {
		if s.http[i].Issues() {
			diags = append(diags, s.http[i].TURN.Link(relay, s.http[i].Range)...)
		}
	}
	for _, relay := range s.relays {
		diags = append(diags, relay.CheckPorts()...)
	}
	return diags
}

// relay is the TURN endpoint for which the others issue, nil if there is none.
func (s *setup) relay() *issuer.Relay {
	if len(s.relays) == 0 {
		return nil
	}
	first := &s.relays[0]
	return &issuer.Relay{
		Name: first.Name, Range: first.Range, Hostname: s.hostname,
		UDPPorts: first.Ports("udp"), TCPPorts: first.Ports("tcp"), TLSPorts: first.Ports("tls"),
		Secrets: first.Secrets, SecretRange: first.SecretRange, FixedSecrets: first.Engine == turn.Pion, MaxLifetime: first.MaxCredentialLifetime.V,
	}
}

// firstAdvertised returns, with the secret only after takeSecret, what the first endpoint that advertises a relay tells clients. Without one it returns
// what such an endpoint without attributes would tell them.
func (s *setup) firstAdvertised() (*issuer.Config, error) {
	if i := slices.IndexFunc(s.imaps, func(c imap.Config) bool { return c.TURN.Enable.V }); i >= 0 {
		return &s.imaps[i].TURN.Config, nil
	}
	if i := slices.IndexFunc(s.http, func(c http.Config) bool { return c.Issues() }); i >= 0 {
		return &s.http[i].TURN, nil
	}
	if len(s.dicts) > 0 {
		return &s.dicts[0].TURN, nil
	}
	relay := s.relay()
	if relay == nil {
		return nil, errors.New("this configuration has no relay, and no endpoint that advertises one: see turn_enable, turn_server and api_keys")
	}
	c, _ := issuer.Decode(config.Endpoint{Body: hcl.EmptyBody()}, config.Defaults[issuer.Schema](), s.hostname) // there is nothing in it that could be wrong
	if diags := c.Link(relay, relay.Range); diags.HasErrors() {
		return nil, fmt.Errorf("%s: %s", diags[0].Summary, diags[0].Detail)
	}
	return &c, nil
}

// share gives the relay access to the accounts to which the others issue credentials, and every relay the bans, and makes listeners
// open the listeners of IMAP. All listening sockets come from and go to other processes in sockets. Clients are told about the relays of
// directory. The secrets of ring, if it is not nil, are those that the machines of the cluster have made.
func (s *setup) share(accounts *credential.Accounts, banned *ban.List, listeners *systemd.Listeners, sockets *handoff.Sockets,
	directory *cluster.Directory, ring *credential.Ring) {
	for i := range s.ports {
		s.ports[i].Sockets = listeners
	}
	for i := range s.imaps {
		s.imaps[i].Sockets = listeners
	}
	for i := range s.sockets {
		s.sockets[i].Socket.Sockets = sockets
	}
	for i := range s.dicts {
		s.dicts[i].Socket.Sockets = sockets
	}
	for i := range s.http {
		s.http[i].Sockets = sockets
	}
	for _, c := range s.issuers() {
		c.Accounts = accounts
		c.Join(directory, ring)
	}
	if len(s.relays) > 0 {
		s.relays[0].Accounts, s.relays[0].Ring = accounts, ring
	}
	for i := range s.relays {
		s.relays[i].Bans, s.relays[i].Sockets = banned, sockets
		s.relays[i].StateDir = s.stateDir
	}
}

// prepare generates the secret and the certificate that the configuration lacks, or uses those of an earlier run. It returns what
// it generated, in words.
func (s *setup) prepare(now time.Time) (made []string, err error) {
	created, err := s.takeSecret()
	if err != nil {
		return nil, err
	}
	if created {
		made = append(made, "TURN secret")
	}
	pair, created, err := s.selfSigned(now)
	if err != nil {
		return nil, err
	}
	if created {
		made = append(made, "self-signed certificate")
	}
	for _, missing := range s.missingCertificates() {
		*missing = []certs.Pair{pair}
	}
	return made, nil
}

// takeSecret generates the secret that the configuration lacks, or uses that of an earlier run. It reports whether it generated one.
func (s *setup) takeSecret() (created bool, err error) {
	var generated []credential.Secret
	for i := range s.relays {
		if len(s.relays[i].Secrets) > 0 {
			continue
		}
		if s.stateDir == "" {
			return false, errNoStateDir
		}
		secret, isNew, err := turn.StoredSecret(s.stateDir)
		if err != nil {
			return false, err
		}
		created = created || isNew
		generated = []credential.Secret{secret}
		s.relays[i].Secrets = generated
	}
	for _, c := range s.issuers() {
		c.SetSecrets(generated)
	}
	return created, nil
}

// missingCertificates returns the TLS fields of the endpoints that need a certificate and have none.
func (s *setup) missingCertificates() (missing []*[]certs.Pair) {
	for i := range s.relays {
		if s.relays[i].NeedsCertificate() {
			missing = append(missing, &s.relays[i].TLS)
		}
	}
	for i := range s.imaps {
		if len(s.imaps[i].TLS) == 0 {
			missing = append(missing, &s.imaps[i].TLS)
		}
	}
	for i := range s.http {
		if s.http[i].NeedsCertificate() {
			missing = append(missing, &s.http[i].TLS)
		}
	}
	return missing
}

// selfSigned returns the certificate for the endpoints that have none, and the zero Pair if all have one.
func (s *setup) selfSigned(now time.Time) (pair certs.Pair, created bool, err error) {
	switch {
	case len(s.missingCertificates()) == 0:
		return certs.Pair{}, false, nil
	case s.stateDir == "":
		return certs.Pair{}, false, errNoStateDir
	}
	names := []string{s.hostname}
	for _, advertised := range s.issuers() {
		names = append(names, advertised.Server.V)
	}
	return certs.SelfSigned(s.stateDir, names, now)
}

var errNoStateDir = errors.New("no directory for the generated secret and certificate: use --state-dir, or set state_dir in the configuration")

// defaultStateDir returns the state directory of a system service, or else of a user's program; empty if there is none.
func defaultStateDir() string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" { // set by systemd's StateDirectory=
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/mailturn"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mailturn")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "mailturn")
}
