package config_test

import (
	"os"
	"time"

	"github.com/mailturn/mailturn/framework/config"
)

// turn is what the kind of an endpoint declares.
type turn struct {
	Listen config.Value[[]string]      `hcl:"listen" default:"udp://0.0.0.0:3478 tcp://0.0.0.0:3478" doc:"Addresses to listen on."`
	Realm  config.Value[string]        `hcl:"realm" otherwise:"hostname" doc:"Realm of the long-term credentials (RFC 8489 section 9.2). Clients show it to nobody, but they compute their keys with it."`
	Secret config.Value[[]string]      `hcl:"secret" secret:"true" type:"secret or list of secrets" doc:"The first issues credentials, all are accepted."`
	TTL    config.Value[time.Duration] `hcl:"max_lifetime" default:"1h"`
	TLS    *certificate                `hcl:"tls,block" doc:"Certificate of tls:// addresses."`
	Users  []user                      `hcl:"user,block" doc:"A user with a fixed password."`
}

type certificate struct {
	config.Block
	Cert config.Value[string] `hcl:"cert" type:"file" doc:"Certificate chain in PEM, the server's own certificate first."`
	Key  config.Value[string] `hcl:"key" type:"file" doc:"Private key of the certificate in PEM."`
}

type user struct {
	config.Block
	Name     config.Value[string] `hcl:"name,label"`
	Password config.Value[string] `hcl:"password" secret:"true" doc:"The password."`
}

func Example() {
	const text = `
endpoint "turn" "calls" {
  realm        = "example.org"
  secret       = env("NO_SUCH_VARIABLE")
  max_lifetime = "1 hour"
  usr "alice" {
    password = "guess me"
  }
}
`
	file, diags := config.Parse("maddy.conf", []byte(text))
	for _, endpoint := range file.Endpoints {
		var target turn
		diags = append(diags, endpoint.Decode(&target)...)
		if len(target.Realm.V) < 20 {
			diags = append(diags, config.WithHint(
				config.Warnf(target.Realm.Range, "Realm is short", "%q has %d bytes.", target.Realm.V, len(target.Realm.V)),
				"this is an example"))
		}
	}
	file.WriteDiagnostics(os.Stdout, diags)

	// Output:
	// maddy.conf:3:18: warning: Realm is short: "example.org" has 11 bytes.
	//     3 |   realm        = "example.org"
	//       |                  ^^^^^^^^^^^^^
	//   hint: this is an example
	// maddy.conf:4:18: Environment variable is not set: NO_SUCH_VARIABLE is not in the environment of this process.
	//     4 |   secret       = env("NO_SUCH_VARIABLE")
	//       |                  ^^^^^^^^^^^^^^^^^^^^^^^
	//   hint: set it, or give a default: env("NO_SUCH_VARIABLE", "…")
	// maddy.conf:5:18: Not a duration: max_lifetime is "1 hour"; a duration such as 86400 (seconds), "24h" or "5d" is accepted.
	//     5 |   max_lifetime = "1 hour"
	//       |                  ^^^^^^^^
	// maddy.conf:6:3: Unsupported block type: Blocks of type "usr" are not expected here. Did you mean "user"?
	//     6 |   usr …
	//       |   ^^^
}

func ExampleReference() {
	config.Reference(os.Stdout,
		config.Section{Doc: "At the top level of the file:", Target: config.File{}}.Reference(),
		config.Section{Header: `endpoint "turn" "NAME"`, Doc: "A TURN server.", Target: new(turn)}.Reference(),
	)

	// Output:
	// At the top level of the file:
	//
	// hostname   string
	//            Public name of this server. Default for realm, turn_server and the
	//            names in a self-signed certificate.
	// state_dir  directory, default $STATE_DIRECTORY, else /var/lib/mailturn for root,
	//            else ~/.local/state/mailturn
	//            Directory for what mailturn generates and obtains: the secret, the
	//            self-signed certificate, certificates of an authority with their
	//            account.
	//
	// tls {
	//   Certificate for every endpoint without its own.
	//
	//   cert  file
	//         Certificate chain in PEM, the server's own certificate first.
	//   key   file
	//         Private key of the certificate in PEM.
	//
	//   acme {
	//     Instead of files: obtain certificates from a certificate authority, and
	//     renew them (RFC 8555). One account serves the whole file, so attributes
	//     other than names need to be set in only one acme block, and must not differ
	//     between blocks.
	//
	//     email           string
	//                     Address at which the certificate authority reaches you about
	//                     the account. Required.
	//     agree_to_terms  bool
	//                     Whether you agree to the terms of service of the certificate
	//                     authority. Those that have terms, such as Let's Encrypt,
	//                     require it.
	//     names           list of strings, default hostname, and each turn_server for
	//                     the TURN endpoint of this file
	//                     Host names, each of which gets its own certificate. The
	//                     first is for clients that send no server name. With dns-01,
	//                     one such as *.example.org is for all direct subdomains.
	//     directory       string, default
	//                     https://acme-v02.api.letsencrypt.org/directory
	//                     Directory URL of the certificate authority.
	//     ca_file         file, default the system's roots
	//                     Root certificates in PEM to verify the server at directory,
	//                     for a private authority.
	//     profile         string, default the authority's choice
	//                     Profile of the certificates, such as "shortlived" at Let's
	//                     Encrypt.
	//     key_type        string, default ecdsa
	//                     Type of the certificates' keys: "ecdsa" (P-256) or "rsa"
	//                     (2048 bits).
	//     eab_key_id      string
	//                     Identifier of the external account, if the authority
	//                     requires one (RFC 8555 section 7.3.4).
	//     eab_key         string
	//                     Key of the external account, in base64url: a string,
	//                     file(PATH) or env(NAME).
	//     challenge       string, default dns-01 with a dns block, else tls-alpn-01 if
	//                     an endpoint listens with TLS on port 443, else http-01
	//                     How the authority checks that the names are yours.
	//                     "http-01": it connects to port 80, on which mailturn listens
	//                     while it asks. "tls-alpn-01": it connects to port 443, which
	//                     must lead to a tls:// or https:// address of an endpoint.
	//                     "dns-01": it looks up a TXT record, which mailturn adds as
	//                     the dns block says.
	//     http_listen     string, default :80
	//                     Address for http-01, HOST:PORT, if port 80 of the names
	//                     leads there: for example to a web server that passes on
	//                     /.well-known/acme-challenge/.
	//
	//     dns {
	//       A name server that accepts dynamic updates (RFC 2136), for dns-01.
	//
	//       server         string
	//                      The zone's primary name server, HOST or HOST:PORT.
	//       zone           string, default the one in which the server finds the name
	//                      Zone to update.
	//       key_name       string
	//                      Name of the TSIG key (RFC 8945).
	//       key_algorithm  string, default hmac-sha256
	//                      Algorithm of the key: hmac-sha1, hmac-sha224, hmac-sha256,
	//                      hmac-sha384 or hmac-sha512.
	//       key            string
	//                      The key in base64, as tsig-keygen prints it: a string,
	//                      file(PATH) or env(NAME).
	//     }
	//   }
	// }
	//
	// log {
	//   Logging.
	//
	//   level   string, default info
	//           Minimum level of log lines: debug, info, warn or error.
	//   format  string, default text
	//           text, or json with one object per line. A change requires a restart.
	// }
	//
	// privacy {
	//   Shortens or hashes addresses and accounts in the log, at every level, and in
	//   what mailturn ctl, the record of calls and the web page show. The key of the
	//   hashes is made at each start, changes each day (UTC) and is stored nowhere:
	//   equal hashes of a day are equal addresses or accounts, but nobody can find out
	//   which.
	//
	//   addresses  string, default none
	//              What is shown of the addresses of clients and their peers. "none":
	//              all. "shorten": the network (IPv4 /24, IPv6 /48). "hash": a keyed
	//              hash. fail2ban needs the address, so log_guesses and this exclude
	//              each other.
	//   accounts   string, default none
	//              What is shown of accounts and user names. "none": all. "shorten":
	//              the first letter and the domain. "hash": a keyed hash;
	//              control.record, which is for finding an account, is then not
	//              possible.
	// }
	//
	// control {
	//   The socket for mailturn ctl, with which operators inspect and change a running
	//   server.
	//
	//   enable  bool, default true
	//           Listen on a Unix socket for mailturn ctl. A change requires a restart.
	//   path    file, default control.socket in $RUNTIME_DIRECTORY, else in state_dir
	//           The socket. Its directory must exist. A stale socket is replaced; any
	//           other existing file is an error. A change requires a restart.
	//   mode    string, default 0660
	//           Permissions of the socket, in octal. Whoever may write to it can end
	//           calls, ban accounts and issue credentials. A change requires a
	//           restart.
	//   group   string, default mailturn-admin if the user that runs mailturn is a
	//           member, else the group that runs mailturn
	//           Group of the socket, a name or a numeric ID. The user that runs
	//           mailturn must be a member, or root. A change requires a restart.
	//   usage   duration, 0s to 8784h, default 0s
	//           How long to keep what each account has relayed on each day (UTC), for
	//           mailturn ctl usage, after the day has ended: at most 366 days. It is
	//           in state_dir, in a file for each day. With it, user_bytes_per_day also
	//           holds across a restart, except for credentials without a name, and
	//           unless the privacy block masks accounts. 0 keeps nothing, and deletes
	//           what was kept.
	//   record  duration, 0s to 8784h, default 0s
	//           How long to record which account held which relayed address, for
	//           mailturn ctl who, after a call has ended: at most 366 days. The record
	//           is in state_dir and takes at most 70 MB. 0 disables the record and
	//           deletes it.
	// }
	//
	// cluster {
	//   Several machines that know of each other through a Redis server: endpoints
	//   that issue credentials tell each account one of the relays that are alive.
	//   While Redis does not answer, each machine carries on alone: clients are told
	//   about the relay that the rest of the file names.
	//
	//   redis              list of strings
	//                      URL of the Redis server: redis://HOST:PORT/DATABASE, or
	//                      rediss:// for TLS. With mode "sentinel" or "cluster", those
	//                      of several Sentinels or nodes. Required. A change requires
	//                      a restart.
	//   mode               string, default standalone
	//                      "standalone" for one server, "sentinel" for Redis Sentinel,
	//                      or "cluster" for Redis Cluster. A change requires a
	//                      restart.
	//   sentinel_master    string
	//                      Name of the master that the Sentinels monitor. A change
	//                      requires a restart.
	//   user               string
	//                      User of Redis (ACL). Unset for the default user. A change
	//                      requires a restart.
	//   password           string
	//                      Password of Redis: a string, file(PATH) or env(NAME). A
	//                      change requires a restart.
	//   sentinel_user      string
	//                      User of the Sentinels, if they require one. A change
	//                      requires a restart.
	//   sentinel_password  string
	//                      Password of the Sentinels. A change requires a restart.
	//   ca_file            file, default the system's roots
	//                      Root certificates in PEM to verify the servers with, for
	//                      rediss://. A change requires a restart.
	//   key                string
	//                      Key of the cluster, at least 32 bytes: a string, file(PATH)
	//                      or env(NAME), the same on all machines. It encrypts what
	//                      machines store in Redis about accounts: bans, and the
	//                      accounts of user names. If unset, these are readable in
	//                      Redis, and machines cannot make a secret together. A change
	//                      requires a restart.
	//   secret_rotation    duration, 0s to 8784h, default 0s
	//                      How often the machines make a new secret together, and
	//                      issue credentials with it once all relays accept it, as
	//                      with mailturn ctl secret rotate: at least 24h. Requires
	//                      key. The secrets of the file are still accepted. 0 never
	//                      does.
	//   key_prefix         string, default mailturn
	//                      First part of all keys in Redis. Processes with the same
	//                      prefix are one cluster. A change requires a restart.
	//   name               string, default turn_server
	//                      Name of this file's relay in the cluster, where no other
	//                      relay may have it. A change requires a restart.
	//   turn_server        string, default hostname
	//                      Host of this file's relay that clients are told: a name or
	//                      an IPv4 address.
	//   region             string
	//                      Where this machine is, in words of your choice, such as
	//                      "eu". Clients are sent to a relay of the region of the
	//                      endpoint that they ask, as long as one there accepts calls.
	//   client_regions     file
	//                      File of client networks with their regions, one NETWORK
	//                      REGION per line, such as 192.0.2.0/24 eu. Clients in these
	//                      networks are sent to a relay of that region instead, by the
	//                      endpoints imap and http, which know the addresses of
	//                      clients. The longest matching prefix counts. A reload reads
	//                      the file again.
	//   weight             number, 0 to 1000, default 1
	//                      Share of the accounts for this file's relay, relative to
	//                      that of the others. 0 sends it no new calls.
	//   allow_upgrade      bool, default true
	//                      Whether mailturn upgrade --cluster on another machine may
	//                      have this one start the program that is installed here.
	// }
	//
	// shared_port "LISTEN" {
	//   A listening port that several endpoints share, which all have it in listen,
	//   and what happens to connections that are for none of them. Connections are
	//   told apart by server name (those in the certificates of the endpoints), by
	//   ALPN (imap, stun.turn, http/1.1, h2), and otherwise by what the client says
	//   first. Endpoints that share a port without such a block have the defaults. Can
	//   be repeated.
	//
	//   fallback         string, default none: endpoints get the other server names,
	//                    too
	//                    Server for all connections that are not for an endpoint,
	//                    tcp://HOST:PORT, such as the web server that had the port:
	//                    other server names, none, protocols that no endpoint with the
	//                    server name speaks, and what is not TLS. They are passed on
	//                    as they are, without decryption.
	//   client_address   string, default none
	//                    How fallback learns the client's address: proxy2 or proxy for
	//                    a PROXY protocol header, version 2 or 1, which it must expect
	//                    (nginx: listen ... proxy_protocol, and set_real_ip_from), or
	//                    none.
	//   proxy_protocol   list of IP prefixes
	//                    Networks of proxies whose connections begin with a PROXY
	//                    protocol header, version 1 or 2, as in the endpoints.
	//                    proxy_protocol of the endpoints does not apply to a shared
	//                    port.
	//   max_connections  number, 1 or more, default 4000
	//                    Maximum number of connections to fallback, of which one
	//                    address (IPv6: /64) may have a quarter, and one network
	//                    (IPv4: /24, IPv6: /48) half. Further ones are closed.
	// }
	//
	// accounts {
	//   Which login names belong to the same account. Limits per account count them
	//   together. Case and surrounding white space are always ignored.
	//
	//   delimiter  string, default +
	//              Separator before the part of a login name that the mail server
	//              ignores: with +, alice+x@example.org is the account
	//              alice@example.org. Empty if each such name is a separate account.
	//   domain     string
	//              Domain that the mail server adds to login names without one: with
	//              example.org, alice is the account alice@example.org. If unset, such
	//              names are separate accounts.
	// }
	//
	// endpoint "turn" "NAME" {
	//   A TURN server.
	//
	//   listen        list of strings, default udp://0.0.0.0:3478 and
	//                 tcp://0.0.0.0:3478
	//                 Addresses to listen on.
	//   realm         string, default hostname
	//                 Realm of the long-term credentials (RFC 8489 section 9.2).
	//                 Clients show it to nobody, but they compute their keys with it.
	//   secret        secret or list of secrets
	//                 The first issues credentials, all are accepted.
	//   max_lifetime  duration, default 1h
	//
	//   tls {
	//     Certificate of tls:// addresses.
	//
	//     cert  file
	//           Certificate chain in PEM, the server's own certificate first.
	//     key   file
	//           Private key of the certificate in PEM.
	//   }
	//
	//   user "NAME" {
	//     A user with a fixed password. Can be repeated.
	//
	//     password  string
	//               The password.
	//   }
	// }
}
