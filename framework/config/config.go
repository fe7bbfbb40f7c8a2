// Package config reads the configuration file into typed values and prints what is wrong with it.
//
// There is one schema, Go structs with tags, and two syntaxes for it: HCL 2, and the `name argument …` directives of maddy and
// Madmail. Directives are parsed into an hcl.Body, so decoding, defaults and diagnostics are the same.
//
// Reading takes two steps. Load decodes the top level and keeps the body of each endpoint. The endpoint's kind declares a
// struct of Value fields, decodes the body into it with Endpoint.Decode, and checks it. No step opens a socket.
package config

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Value is a decoded attribute: its value, whether the file sets it, and where.
//
// T is one of string, bool, int, int64, float64, time.Duration, a type whose pointer implements encoding.TextUnmarshaler, a slice
// of one of these, or map[string]string. Decode documents what each accepts.
type Value[T any] struct {
	V     T
	Set   bool        // the file has the attribute, even if Decode could not read its value and left V alone
	Range hcl.Range   // of the expression or the directive's arguments; the zero Range when not set
	Elems []hcl.Range // of each element of a list; empty when the list was computed
}

// At returns the place of element i of a list, for a diagnostic about it.
func (v Value[T]) At(i int) hcl.Range {
	if i < 0 || i >= len(v.Elems) {
		return v.Range
	}
	return v.Elems[i]
}

// Path returns the absolute path of the file or folder that v names. A relative path is relative to the folder of the configuration
// file that contains it, as in the function file, whatever the working directory. An empty path stays empty.
func Path(v Value[string]) string {
	if v.V == "" || filepath.IsAbs(v.V) {
		return v.V
	}
	path := filepath.Join(filepath.Dir(v.Range.Filename), v.V)
	if absolute, err := filepath.Abs(path); err == nil { // a reload may find another working directory
		return absolute
	}
	return path
}

// Block is embedded in a struct that decodes a block, and records the place of its header.
type Block struct{ Range hcl.Range }

// TLS is the block for a certificate, at the top level and in an endpoint.
type TLS struct {
	Block
	Cert Value[string] `hcl:"cert" type:"file" doc:"Certificate chain in PEM, the server's own certificate first."`
	Key  Value[string] `hcl:"key" type:"file" doc:"Private key of the certificate in PEM."`
	ACME *ACME         `hcl:"acme,block" doc:"Instead of files: obtain certificates from a certificate authority, and renew them (RFC 8555). One account serves the whole file, so attributes other than names need to be set in only one acme block, and must not differ between blocks."`
}

// ACME is the block for a certificate authority. Package framework/acme checks it.
type ACME struct {
	Block
	Email      Value[string]   `hcl:"email" doc:"Address at which the certificate authority reaches you about the account. Required."`
	AgreeTerms Value[bool]     `hcl:"agree_to_terms" doc:"Whether you agree to the terms of service of the certificate authority. Those that have terms, such as Let's Encrypt, require it."`
	Names      Value[[]string] `hcl:"names" otherwise:"hostname, and each turn_server for the TURN endpoint of this file" doc:"Host names, each of which gets its own certificate. The first is for clients that send no server name. With dns-01, one such as *.example.org is for all direct subdomains."`
	Directory  Value[string]   `hcl:"directory" otherwise:"https://acme-v02.api.letsencrypt.org/directory" doc:"Directory URL of the certificate authority."`
	CAFile     Value[string]   `hcl:"ca_file" type:"file" otherwise:"the system's roots" doc:"Root certificates in PEM to verify the server at directory, for a private authority."`
	Profile    Value[string]   `hcl:"profile" otherwise:"the authority's choice" doc:"Profile of the certificates, such as \"shortlived\" at Let's Encrypt."`
	KeyType    Value[string]   `hcl:"key_type" otherwise:"ecdsa" doc:"Type of the certificates' keys: \"ecdsa\" (P-256) or \"rsa\" (2048 bits)."`
	EABKeyID   Value[string]   `hcl:"eab_key_id" doc:"Identifier of the external account, if the authority requires one (RFC 8555 section 7.3.4)."`
	EABKey     Value[string]   `hcl:"eab_key" secret:"true" doc:"Key of the external account, in base64url: a string, file(PATH) or env(NAME)."`
	Challenge  Value[string]   `hcl:"challenge" otherwise:"dns-01 with a dns block, else tls-alpn-01 if an endpoint listens with TLS on port 443, else http-01" doc:"How the authority checks that the names are yours. \"http-01\": it connects to port 80, on which mailturn listens while it asks. \"tls-alpn-01\": it connects to port 443, which must lead to a tls:// or https:// address of an endpoint. \"dns-01\": it looks up a TXT record, which mailturn adds as the dns block says."`
	HTTPListen Value[string]   `hcl:"http_listen" otherwise:":80" doc:"Address for http-01, HOST:PORT, if port 80 of the names leads there: for example to a web server that passes on /.well-known/acme-challenge/."`
	DNS        *DNSUpdate      `hcl:"dns,block" doc:"A name server that accepts dynamic updates (RFC 2136), for dns-01."`
}

// DNSUpdate is the block for a name server that accepts dynamic updates.
type DNSUpdate struct {
	Block
	Server    Value[string] `hcl:"server" doc:"The zone's primary name server, HOST or HOST:PORT."`
	Zone      Value[string] `hcl:"zone" otherwise:"the one in which the server finds the name" doc:"Zone to update."`
	KeyName   Value[string] `hcl:"key_name" doc:"Name of the TSIG key (RFC 8945)."`
	Algorithm Value[string] `hcl:"key_algorithm" otherwise:"hmac-sha256" doc:"Algorithm of the key: hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384 or hmac-sha512."`
	Key       Value[string] `hcl:"key" secret:"true" doc:"The key in base64, as tsig-keygen prints it: a string, file(PATH) or env(NAME)."`
}

// Log is the block for logging. The logger checks the values.
type Log struct {
	Block
	Level  Value[string] `hcl:"level" default:"info" doc:"Minimum level of log lines: debug, info, warn or error."`
	Format Value[string] `hcl:"format" default:"text" reload:"restart" doc:"text, or json with one object per line."`
}

// Privacy is the block about what the log and operators see of users.
type Privacy struct {
	Block
	Addresses Value[string] `hcl:"addresses" default:"none" doc:"What is shown of the addresses of clients and their peers. \"none\": all. \"shorten\": the network (IPv4 /24, IPv6 /48). \"hash\": a keyed hash. fail2ban needs the address, so log_guesses and this exclude each other."`
	Accounts  Value[string] `hcl:"accounts" default:"none" doc:"What is shown of accounts and user names. \"none\": all. \"shorten\": the first letter and the domain. \"hash\": a keyed hash; control.record, which is for finding an account, is then not possible."`
}

// Control is the block about the socket for mailturn ctl. Package socket checks path, mode and group.
type Control struct {
	Block
	Enable Value[bool]   `hcl:"enable" default:"true" reload:"restart" doc:"Listen on a Unix socket for mailturn ctl."`
	Path   Value[string] `hcl:"path" type:"file" reload:"restart" otherwise:"control.socket in $RUNTIME_DIRECTORY, else in state_dir" doc:"The socket. Its directory must exist. A stale socket is replaced; any other existing file is an error."`
	Mode   Value[string] `hcl:"mode" default:"0660" reload:"restart" doc:"Permissions of the socket, in octal. Whoever may write to it can end calls, ban accounts and issue credentials."`
	Group  Value[string] `hcl:"group" reload:"restart" otherwise:"mailturn-admin if the user that runs mailturn is a member, else the group that runs mailturn" doc:"Group of the socket, a name or a numeric ID. The user that runs mailturn must be a member, or root."`
	// A complaint comes after hours or days.
	Usage  Value[time.Duration] `hcl:"usage" default:"0s" min:"0s" max:"8784h" doc:"How long to keep what each account has relayed on each day (UTC), for mailturn ctl usage, after the day has ended: at most 366 days. It is in state_dir, in a file for each day. With it, user_bytes_per_day also holds across a restart, except for credentials without a name, and unless the privacy block masks accounts. 0 keeps nothing, and deletes what was kept."`
	Record Value[time.Duration] `hcl:"record" default:"0s" min:"0s" max:"8784h" doc:"How long to record which account held which relayed address, for mailturn ctl who, after a call has ended: at most 366 days. The record is in state_dir and takes at most 70 MB. 0 disables the record and deletes it."`
}

// Cluster is the block about several machines that know of each other. Package framework/cluster checks it.
type Cluster struct {
	Block
	Redis            Value[[]string]      `hcl:"redis" reload:"restart" doc:"URL of the Redis server: redis://HOST:PORT/DATABASE, or rediss:// for TLS. With mode \"sentinel\" or \"cluster\", those of several Sentinels or nodes. Required."`
	Mode             Value[string]        `hcl:"mode" default:"standalone" reload:"restart" doc:"\"standalone\" for one server, \"sentinel\" for Redis Sentinel, or \"cluster\" for Redis Cluster."`
	SentinelMaster   Value[string]        `hcl:"sentinel_master" reload:"restart" doc:"Name of the master that the Sentinels monitor."`
	User             Value[string]        `hcl:"user" reload:"restart" doc:"User of Redis (ACL). Unset for the default user."`
	Password         Value[string]        `hcl:"password" secret:"true" reload:"restart" doc:"Password of Redis: a string, file(PATH) or env(NAME)."`
	SentinelUser     Value[string]        `hcl:"sentinel_user" reload:"restart" doc:"User of the Sentinels, if they require one."`
	SentinelPassword Value[string]        `hcl:"sentinel_password" secret:"true" reload:"restart" doc:"Password of the Sentinels."`
	CAFile           Value[string]        `hcl:"ca_file" type:"file" reload:"restart" otherwise:"the system's roots" doc:"Root certificates in PEM to verify the servers with, for rediss://."`
	Key              Value[string]        `hcl:"key" secret:"true" reload:"restart" doc:"Key of the cluster, at least 32 bytes: a string, file(PATH) or env(NAME), the same on all machines. It encrypts what machines store in Redis about accounts: bans, and the accounts of user names. If unset, these are readable in Redis, and machines cannot make a secret together."`
	SecretRotation   Value[time.Duration] `hcl:"secret_rotation" default:"0s" min:"0s" max:"8784h" doc:"How often the machines make a new secret together, and issue credentials with it once all relays accept it, as with mailturn ctl secret rotate: at least 24h. Requires key. The secrets of the file are still accepted. 0 never does."`
	KeyPrefix        Value[string]        `hcl:"key_prefix" default:"mailturn" reload:"restart" doc:"First part of all keys in Redis. Processes with the same prefix are one cluster."`

	Name          Value[string] `hcl:"name" reload:"restart" otherwise:"turn_server" doc:"Name of this file's relay in the cluster, where no other relay may have it."`
	TurnServer    Value[string] `hcl:"turn_server" otherwise:"hostname" doc:"Host of this file's relay that clients are told: a name or an IPv4 address."`
	Region        Value[string] `hcl:"region" doc:"Where this machine is, in words of your choice, such as \"eu\". Clients are sent to a relay of the region of the endpoint that they ask, as long as one there accepts calls."`
	ClientRegions Value[string] `hcl:"client_regions" type:"file" doc:"File of client networks with their regions, one NETWORK REGION per line, such as 192.0.2.0/24 eu. Clients in these networks are sent to a relay of that region instead, by the endpoints imap and http, which know the addresses of clients. The longest matching prefix counts. A reload reads the file again."`
	Weight        Value[int]    `hcl:"weight" default:"1" min:"0" max:"1000" doc:"Share of the accounts for this file's relay, relative to that of the others. 0 sends it no new calls."`
	AllowUpgrade  Value[bool]   `hcl:"allow_upgrade" default:"true" doc:"Whether mailturn upgrade --cluster on another machine may have this one start the program that is installed here."`
}

// SharedPort is the block about a listening port that several endpoints, or an endpoint and a web server, share. Package
// endpoint/shared checks it.
type SharedPort struct {
	Block
	Listen         Value[string]         `hcl:"listen,label"`
	Fallback       Value[string]         `hcl:"fallback" otherwise:"none: endpoints get the other server names, too" doc:"Server for all connections that are not for an endpoint, tcp://HOST:PORT, such as the web server that had the port: other server names, none, protocols that no endpoint with the server name speaks, and what is not TLS. They are passed on as they are, without decryption."`
	ClientAddress  Value[string]         `hcl:"client_address" default:"none" doc:"How fallback learns the client's address: proxy2 or proxy for a PROXY protocol header, version 2 or 1, which it must expect (nginx: listen ... proxy_protocol, and set_real_ip_from), or none."`
	ProxyProtocol  Value[[]netip.Prefix] `hcl:"proxy_protocol" doc:"Networks of proxies whose connections begin with a PROXY protocol header, version 1 or 2, as in the endpoints. proxy_protocol of the endpoints does not apply to a shared port."`
	MaxConnections Value[int]            `hcl:"max_connections" default:"4000" min:"1" doc:"Maximum number of connections to fallback, of which one address (IPv6: /64) may have a quarter, and one network (IPv4: /24, IPv6: /48) half. Further ones are closed."`
}

// Accounts is the block that says which login names belong to the same account, for limits and for the choice of a relay.
type Accounts struct {
	Block
	Delimiter Value[string] `hcl:"delimiter" default:"+" doc:"Separator before the part of a login name that the mail server ignores: with +, alice+x@example.org is the account alice@example.org. Empty if each such name is a separate account."`
	Domain    Value[string] `hcl:"domain" doc:"Domain that the mail server adds to login names without one: with example.org, alice is the account alice@example.org. If unset, such names are separate accounts."`
}

// File is a parsed configuration file.
type File struct {
	Name   string
	Syntax Syntax

	Hostname    Value[string] `hcl:"hostname" doc:"Public name of this server. Default for realm, turn_server and the names in a self-signed certificate."`
	StateDir    Value[string] `hcl:"state_dir" type:"directory" otherwise:"$STATE_DIRECTORY, else /var/lib/mailturn for root, else ~/.local/state/mailturn" doc:"Directory for what mailturn generates and obtains: the secret, the self-signed certificate, certificates of an authority with their account."`
	TLS         *TLS          `hcl:"tls,block" doc:"Certificate for every endpoint without its own."`
	Log         Log           `hcl:"log,block" doc:"Logging."`
	Privacy     Privacy       `hcl:"privacy,block" doc:"Shortens or hashes addresses and accounts in the log, at every level, and in what mailturn ctl, the record of calls and the web page show. The key of the hashes is made at each start, changes each day (UTC) and is stored nowhere: equal hashes of a day are equal addresses or accounts, but nobody can find out which."`
	Control     Control       `hcl:"control,block" doc:"The socket for mailturn ctl, with which operators inspect and change a running server."`
	Cluster     *Cluster      `hcl:"cluster,block" doc:"Several machines that know of each other through a Redis server: endpoints that issue credentials tell each account one of the relays that are alive. While Redis does not answer, each machine carries on alone: clients are told about the relay that the rest of the file names."`
	SharedPorts []SharedPort  `hcl:"shared_port,block" doc:"A listening port that several endpoints share, which all have it in listen, and what happens to connections that are for none of them. Connections are told apart by server name (those in the certificates of the endpoints), by ALPN (imap, stun.turn, http/1.1, h2), and otherwise by what the client says first. Endpoints that share a port without such a block have the defaults."`
	Accounts    Accounts      `hcl:"accounts,block" doc:"Which login names belong to the same account. Limits per account count them together. Case and surrounding white space are always ignored."`

	Endpoints []Endpoint // in the order of the file

	sources *sources
}

// Endpoint is the block of one endpoint, its body not decoded yet.
type Endpoint struct {
	Kind, Name           string    // endpoint "KIND" "NAME"; without a name, the kind
	KindRange, NameRange hcl.Range // of the two labels
	Range                hcl.Range // of the header
	Body                 hcl.Body
	Context              *hcl.EvalContext

	sources *sources
}

// Decode decodes the endpoint's body into target as the function Decode does. It also tells File.WriteDiagnostics where the secrets
// of this endpoint are, so that later diagnostics do not show them either, and File.Changes what they and the other values are.
//
// It must not be called concurrently for endpoints of one file.
func (e Endpoint) Decode(target any) hcl.Diagnostics {
	d := decoder{ctx: e.Context}
	diags := d.decode(e.Body, target)
	if e.sources != nil {
		e.sources.secrets = append(e.sources.secrets, d.secrets...)
		e.sources.schemas[e.String()] = reflect.ValueOf(target).Elem().Interface()
	}
	return diags
}

// sources is what printing a diagnostic, and comparing with a later version, require of the files that were read.
type sources struct {
	text    map[string][]byte // by the name that ranges carry
	secrets []hcl.Range       // expressions whose value must not be shown
	schemas map[string]any    // what endpoints were decoded into, by their String
	named   map[string][]span // what follows a name that sounds like a secret, found when a line is first quoted
}
