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
	TLS    *config.TLS                 `hcl:"tls,block" doc:"Certificate of tls:// addresses."`
	Users  []user                      `hcl:"user,block" doc:"A user with a fixed password."`
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
		config.Section{Doc: "At the top level of the file:", Target: config.File{}},
		config.Section{Header: `endpoint "turn" "NAME"`, Doc: "A TURN server.", Target: new(turn)},
	)

	// Output:
	// At the top level of the file:
	//
	// hostname   string
	//            Public name of this server. Default for realm, turn_server and the
	//            names in a self-signed certificate.
	// state_dir  directory, default $STATE_DIRECTORY, else /var/lib/mailturn for root,
	//            else ~/.local/state/mailturn
	//            Directory for the generated secret and the self-signed certificate.
	//
	// tls {
	//   Certificate for every endpoint without its own.
	//
	//   cert  file
	//         Certificate chain in PEM, the server's own certificate first.
	//   key   file
	//         Private key of the certificate in PEM.
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
