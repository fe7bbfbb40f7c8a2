package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/redis/go-redis/v9"

	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config"
)

// Settings is a checked cluster block. The zero value is for a process that is in no cluster.
type Settings struct {
	Enabled bool
	Block   config.Cluster

	roots   *x509.CertPool // nil for the system's
	clients clientRegions
}

// Decode checks the cluster block of a file, nil if it has none. It connects to nothing.
func Decode(block *config.Cluster) (s Settings, diags hcl.Diagnostics) {
	if block == nil {
		return s, nil
	}
	s = Settings{Enabled: true, Block: *block}
	if len(block.Redis.V) == 0 {
		diags = append(diags, config.WithHint(config.Errorf(block.Range, "No Redis server", "The cluster block has no redis."),
			`add redis = ["rediss://redis.example.org:6379"]`))
	}
	for i, text := range block.Redis.V {
		diags = append(diags, s.checkURL(i, text)...)
	}
	diags = append(diags, s.checkMode()...)
	if block.User.Set && !block.Password.Set {
		diags = append(diags, config.WithHint(config.Errorf(block.User.Range, "Password is missing", "The cluster block has a user and no password."),
			`add password = file("/etc/mailturn/redis.password")`))
	}
	if block.KeyPrefix.V == "" || len(block.KeyPrefix.V) > 64 || strings.ContainsAny(block.KeyPrefix.V, "{} \t\r\n") {
		diags = append(diags, config.Errorf(block.KeyPrefix.Range, "Not a key prefix", "%q: want 1 to 64 bytes without braces or white space.", block.KeyPrefix.V))
	}
	if len(block.Region.V) > maxName {
		diags = append(diags, config.Errorf(block.Region.Range, "Region is too long", "It has %d bytes, and may have %d.", len(block.Region.V), maxName))
	}
	clients, clientDiags := readClientRegions(block.ClientRegions)
	s.clients = clients
	diags = append(diags, clientDiags...)
	if block.Key.Set && len(s.key()) < MinKey {
		diags = append(diags, config.WithHint(config.Errorf(block.Key.Range, "Key is too short", "It has %d bytes, and needs %d.", len(s.key()), MinKey),
			"make one with: openssl rand -base64 32"))
	}
	switch every := block.SecretRotation; {
	case every.V == 0:
	case !block.Key.Set:
		diags = append(diags, config.WithHint(config.Errorf(every.Range, "Key is missing", "Secrets are shared only if the cluster block has a key."),
			"add key = file(\"/etc/mailturn/cluster.key\"), made with: openssl rand -base64 32"))
	case every.V < minRotation:
		diags = append(diags, config.Errorf(every.Range, "Secrets would be replaced too often", "secret_rotation is %v: want 0s, or at least %v.", every.V, minRotation))
	}
	if path := config.Path(block.CAFile); path != "" {
		text, _, err := bounded.ReadFile(path, bounded.MaxFile)
		s.roots = x509.NewCertPool()
		switch {
		case err != nil:
			diags = append(diags, config.Errorf(block.CAFile.Range, "Root certificates cannot be read", "%v.", err))
		case !s.roots.AppendCertsFromPEM(text):
			diags = append(diags, config.Errorf(block.CAFile.Range, "Root certificates cannot be used", "%s holds no certificate in PEM.", path))
		}
	}
	return s, diags
}

// minRotation is the least time between two secrets. A machine holds a limited number of those that were replaced.
const minRotation = 24 * time.Hour

// key returns the key of the cluster, empty if there is none.
func (s *Settings) key() []byte { return []byte(strings.TrimSpace(s.Block.Key.V)) }

// checkURL checks one element of redis.
func (s *Settings) checkURL(i int, text string) (diags hcl.Diagnostics) {
	rng := s.Block.Redis.At(i)
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		// Not quoted: it may hold a password.
		return append(diags, config.Errorf(rng, "Not the URL of a Redis server", "Want redis://HOST:PORT, or rediss://HOST:PORT for TLS."))
	}
	if u.User != nil {
		return append(diags, config.WithHint(config.Errorf(rng, "Password in a URL", "It would be in every copy of this file."),
			`use the attributes user and password = file("/etc/mailturn/redis.password")`))
	}
	if database := strings.TrimPrefix(u.Path, "/"); database != "" {
		if n, err := strconv.Atoi(database); err != nil || n < 0 {
			diags = append(diags, config.Errorf(rng, "Not a database of Redis", "%q: want the database's number after the slash, or nothing.", database))
		} else if s.Block.Mode.V == modeCluster && n != 0 {
			diags = append(diags, config.Errorf(rng, "Database of a Redis Cluster", "Redis Cluster has only database 0."))
		}
	}
	if first, _ := url.Parse(s.Block.Redis.V[0]); first != nil && i > 0 && (first.Scheme != u.Scheme || first.Path != u.Path) {
		diags = append(diags, config.Errorf(rng, "Redis servers differ", "All need the same scheme and database as the first one."))
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "redis" && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		diags = append(diags, config.WithHint(config.Warnf(rng, "Connection to Redis is not encrypted",
			"Anyone who can read or change it on the way learns the password of Redis, and can send calls elsewhere."), "use rediss://, or a VPN between the machines"))
	}
	return diags
}

// Values of mode.
const (
	modeStandalone = "standalone"
	modeSentinel   = "sentinel"
	modeCluster    = "cluster"
)

func (s *Settings) checkMode() (diags hcl.Diagnostics) {
	b := s.Block
	switch b.Mode.V {
	case modeStandalone:
		if len(b.Redis.V) > 1 {
			diags = append(diags, config.WithHint(config.Errorf(b.Redis.Range, "Several Redis servers", "With mode = %q there is one.", modeStandalone),
				`add mode = "sentinel" if they are Sentinels, or mode = "cluster" if they are nodes of a Redis Cluster`))
		}
	case modeSentinel, modeCluster:
	default:
		return hcl.Diagnostics{config.Errorf(b.Mode.Range, "Unknown mode", `%q: want "standalone", "sentinel" or "cluster".`, b.Mode.V)}
	}
	switch {
	case b.Mode.V == modeSentinel && !b.SentinelMaster.Set:
		diags = append(diags, config.WithHint(config.Errorf(b.Range, "Name of the master is missing", "Sentinels may monitor several."),
			`add sentinel_master = "mymaster", with the name in sentinel.conf`))
	case b.Mode.V != modeSentinel && b.SentinelMaster.Set:
		diags = append(diags, config.WithHint(config.Errorf(b.SentinelMaster.Range, "Name of a master without Sentinel",
			"mode is %q.", b.Mode.V), `add mode = "sentinel", or remove sentinel_master`))
	}
	return diags
}

// client returns a client of Redis. It connects when it is first used, and again after the connection is lost.
func (s *Settings) client() redis.UniversalClient {
	options := &redis.UniversalOptions{
		ClientName: "mailturn", Username: s.Block.User.V, Password: strings.TrimSpace(s.Block.Password.V),
		SentinelUsername: s.Block.SentinelUser.V, SentinelPassword: strings.TrimSpace(s.Block.SentinelPassword.V),
		MasterName: s.Block.SentinelMaster.V, IsClusterMode: s.Block.Mode.V == modeCluster,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout, ContextTimeoutEnabled: true,
		MaxRetries: 1, DialerRetries: 1, PoolSize: 4,
	}
	for _, text := range s.Block.Redis.V {
		u, _ := url.Parse(text) // Decode has checked it
		port := u.Port()
		if port == "" {
			port = "6379"
		}
		options.Addrs = append(options.Addrs, net.JoinHostPort(u.Hostname(), port))
		options.DB, _ = strconv.Atoi(strings.TrimPrefix(u.Path, "/"))
		if u.Scheme == "rediss" {
			options.TLSConfig = &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12}
			if s.Block.Mode.V == modeStandalone {
				options.TLSConfig.ServerName = u.Hostname()
			}
		}
	}
	options.Addrs = slices.Compact(options.Addrs)
	client := redis.NewUniversalClient(options)
	client.AddHook(permissionHook{s.Block.User.V, s.Block.KeyPrefix.V})
	return client
}

// NeedsRestart returns the names of the attributes that differ between the settings in force and the next ones, and cannot change
// while the process runs.
func NeedsRestart(running, next Settings) (names []string) {
	if running.Enabled != next.Enabled {
		return []string{"cluster"}
	}
	for _, name := range config.NeedsRestart(config.Cluster{}, running.Block, next.Block) {
		names = append(names, "cluster."+name)
	}
	return names
}
