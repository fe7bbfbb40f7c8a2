// Package config reads the configuration file into typed values and prints what is wrong with it.
//
// There is one schema, Go structs with tags, and two syntaxes for it: HCL 2, and the `name argument …` directives of maddy
// and Madmail. Directives are parsed into an hcl.Body, so decoding, defaults and diagnostics exist once.
//
// Reading takes two steps. Load decodes the top level and keeps the body of each endpoint. The endpoint's kind declares a
// struct of Value fields, decodes the body into it with Endpoint.Decode, and checks it. No step opens a socket.
package config

import (
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
)

// Value is one decoded attribute: what it holds, whether the file set it, and where.
//
// T is one of string, bool, int, int64, float64, time.Duration, a type whose pointer implements encoding.TextUnmarshaler,
// a slice of one of these, or map[string]string. What each accepts is written at Decode.
type Value[T any] struct {
	V     T
	Set   bool        // the file has the attribute, even if Decode could not read its value and left V alone
	Range hcl.Range   // of the expression or the directive's arguments; the zero Range when not set
	Elems []hcl.Range // of each element of a list; empty when the list was computed
}

// At returns the place of element i of a list, for a diagnostic that concerns that one.
func (v Value[T]) At(i int) hcl.Range {
	if i < 0 || i >= len(v.Elems) {
		return v.Range
	}
	return v.Elems[i]
}

// Path returns the absolute path of the file or folder that v names. A relative one starts in the folder of the configuration
// file that it stands in, as that of the function file does, whatever the working directory. Empty stays empty.
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

// Block is embedded in a struct that decodes a block and records the place of its header.
type Block struct{ Range hcl.Range }

// TLS is the block that names a certificate, the same at the top level and in an endpoint.
type TLS struct {
	Block
	Cert Value[string] `hcl:"cert" type:"file" doc:"Certificate chain in PEM, the server's own certificate first."`
	Key  Value[string] `hcl:"key" type:"file" doc:"Private key of the certificate in PEM."`
}

// Log is the block that says what is logged, and how. The logger checks the values.
type Log struct {
	Block
	Level  Value[string] `hcl:"level" default:"info" doc:"Minimum level of log lines: debug, info, warn or error."`
	Format Value[string] `hcl:"format" default:"text" reload:"restart" doc:"text, or json with one object per line."`
}

// Accounts is the block that says which login names are those of one account, for limits and for the choice of a relay.
type Accounts struct {
	Block
	Delimiter Value[string] `hcl:"delimiter" default:"+" doc:"Separator before the part of a login name that the mail server ignores: with +, alice+x@example.org is the account alice@example.org. Empty if each such name is a separate account."`
	Domain    Value[string] `hcl:"domain" doc:"Domain that the mail server adds to login names without one: with example.org, alice is the account alice@example.org. If unset, such names are separate accounts."`
}

// File is a parsed configuration file.
type File struct {
	Name   string
	Syntax Syntax

	Hostname Value[string] `hcl:"hostname" doc:"Public name of this server. Default for realm, turn_server and the names in a self-signed certificate."`
	StateDir Value[string] `hcl:"state_dir" type:"directory" otherwise:"$STATE_DIRECTORY, else /var/lib/mailturn for root, else ~/.local/state/mailturn" doc:"Directory for the generated secret and the self-signed certificate."`
	TLS      *TLS          `hcl:"tls,block" doc:"Certificate for every endpoint without its own."`
	Log      Log           `hcl:"log,block" doc:"Logging."`
	Accounts Accounts      `hcl:"accounts,block" doc:"Which login names belong to the same account. Limits per account count them together. Case and surrounding white space are always ignored."`

	Endpoints []Endpoint // in the order of the file

	sources *sources
}

// Endpoint is the block of one endpoint, its body not decoded yet.
type Endpoint struct {
	Kind, Name           string    // endpoint "KIND" "NAME"; a name left out is the kind
	KindRange, NameRange hcl.Range // of the two labels
	Range                hcl.Range // of the header
	Body                 hcl.Body
	Context              *hcl.EvalContext

	sources *sources
}

// Decode decodes the endpoint's body into target as the function Decode does. It also lets File.WriteDiagnostics know
// where the secrets of this endpoint are, so that diagnostics made after it do not show them either.
//
// It must not be called from several goroutines at once for endpoints of one file.
func (e Endpoint) Decode(target any) hcl.Diagnostics {
	d := decoder{ctx: e.Context}
	diags := d.decode(e.Body, target)
	if e.sources != nil {
		e.sources.secrets = append(e.sources.secrets, d.secrets...)
	}
	return diags
}

// sources is what printing a diagnostic needs to know of the files that were read.
type sources struct {
	text    map[string][]byte // by the name that ranges carry
	secrets []hcl.Range       // expressions whose value must not be shown
	named   map[string][]span // what follows a name that sounds like a secret, found when a line is first quoted
}
