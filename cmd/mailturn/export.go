package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/endpoint/turn/coturn"
	"github.com/mailturn/mailturn/framework/certs"
)

func newExportCommand() *cobra.Command {
	var configFile, stateDir string
	cmd := &cobra.Command{
		Use:   "export PROGRAM",
		Short: "Print the configuration that another program needs for this relay",
		Long: `export prints the configuration that another program needs, derived from the configuration of
mailturn. That for synapse, livekit, prosody, ejabberd, nextcloud and coturn contains the shared
secret, and that for env a password. It goes only to standard output.

If the shared secret is printed, the configuration has none, and the relay has not generated one
yet, it is generated now: turn.secret in state_dir, which belongs to the owner of that directory.
Nothing else is written.`,
		Args: cobra.NoArgs, // an unknown program is an unknown command to it
		RunE: func(cmd *cobra.Command, _ []string) error {
			var names []string
			for _, program := range cmd.Commands() {
				names = append(names, program.Name())
			}
			return fmt.Errorf("PROGRAM is missing: want one of %s", strings.Join(names, ", "))
		},
	}
	cmd.PersistentFlags().StringVar(&configFile, "config", "", "configuration `file` (default: the embedded default)")
	cmd.PersistentFlags().StringVar(&stateDir, "state-dir", "", "`directory` of the generated secret (default: state_dir of the configuration)")
	var dovecotVersion string
	dovecotFlags := func(flags *pflag.FlagSet) {
		flags.StringVar(&dovecotVersion, "dovecot-version", "", "2.3 or 2.4 (default: that of the installed Dovecot)")
	}
	var relayUser string
	relayUserFlags := func(flags *pflag.FlagSet) {
		flags.StringVar(&relayUser, "user", "", "`name` or number of the user mailturn runs as (default: that of mailturn.service)")
	}
	for _, program := range []struct {
		name, what string
		withSecret bool
		write      func(io.Writer, *setup) error
		flags      func(*pflag.FlagSet) // nil if it has none of its own
	}{
		{"synapse", "homeserver.yaml of Matrix Synapse", true, exportSynapse, nil},
		{"livekit", "config.yaml of LiveKit", true, exportLiveKit, nil},
		{"prosody", "prosody.cfg.lua, also that of Jitsi Meet", true, exportProsody, nil},
		{"ejabberd", "ejabberd.yml", true, exportEjabberd, nil},
		{"nextcloud", "Nextcloud Talk: commands that add the relay", true, exportNextcloud, nil},
		{"coturn", "turnserver.conf, for coturn instead of the TURN endpoint", true, exportCoturn, nil},
		{"dovecot", "Dovecot 2.3 or 2.4: what the imap endpoint is in front of, or what asks the dict endpoint", false,
			func(w io.Writer, s *setup) error { return exportDovecot(w, s, dovecotVersion) }, dovecotFlags},
		{"chatmail", "a chatmail relay, which asks the credsock or the dict endpoint: commands for a root shell on it", false, exportChatmail, nil},
		{"env", "MATRIX_TURN_SERVERS, for programs that take a fixed user from the environment", false, exportEnv, nil},
		{"nftables", "nftables: open the ports in use, and do not track the relay's packets", false,
			func(w io.Writer, s *setup) error { return exportNftables(w, s, relayUser) }, relayUserFlags},
		{"ufw", "ufw: open the ports in use", false, exportUFW, nil},
	} {
		export := &cobra.Command{
			Use:   program.name,
			Short: program.what,
			Args:  noArguments,
			RunE: action(func(cmd *cobra.Command, _ []string) error {
				s, err := loadOrDefault(configFile, stateDir, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				if program.withSecret {
					if _, err := s.takeSecret(); err != nil {
						return err
					}
				}
				var text bytes.Buffer // nothing half is printed
				if err := program.write(&text, s); err != nil {
					return err
				}
				_, err = text.WriteTo(cmd.OutOrStdout())
				return err
			}),
		}
		if program.flags != nil {
			program.flags(export.Flags())
		}
		cmd.AddCommand(export)
	}
	return cmd
}

// quoted is a string as JSON has it, and YAML too.
func quoted(s string) string {
	var b strings.Builder
	_ = writeJSON(&b, s, false) // a string can always be encoded
	return strings.TrimSuffix(b.String(), "\n")
}

// shellQuoted is a string as a POSIX shell has it.
func shellQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// advertised returns the relays that clients are told about, one or several.
func (s *setup) advertised() ([]issuer.Config, error) {
	first, err := s.firstAdvertised()
	if err != nil {
		return nil, err
	}
	if len(first.Relays) == 0 {
		return []issuer.Config{*first}, nil
	}
	var relays []issuer.Config
	for _, relay := range first.Relays {
		relays = append(relays, relay.Config)
	}
	return relays, nil
}

// advertisedWithOneSecret is advertised for a program that accepts only one secret for all relays, and also returns that.
func (s *setup) advertisedWithOneSecret(program string) (relays []issuer.Config, secret string, err error) {
	if relays, err = s.advertised(); err != nil {
		return nil, "", err
	}
	first := relays[0].Secrets.V[0].Bytes()
	for _, relay := range relays[1:] {
		if !bytes.Equal(relay.Secrets.V[0].Bytes(), first) {
			return nil, "", fmt.Errorf("%s takes one secret for all relays, and %s and %s have different ones", program, relays[0].Server.V, relay.Server.V)
		}
	}
	return relays, string(first), nil
}

func exportSynapse(w io.Writer, s *setup) error {
	relays, secret, err := s.advertisedWithOneSecret("Synapse")
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "turn_uris:")
	for _, relay := range relays {
		for _, uri := range relay.URIs() {
			fmt.Fprintf(w, "  - %s\n", quoted(uri))
		}
	}
	fmt.Fprintf(w, "turn_shared_secret: %s\n", quoted(secret))
	fmt.Fprintf(w, "turn_user_lifetime: %d # milliseconds\n", relays[0].TTL.V.Milliseconds())
	fmt.Fprintln(w, "turn_allow_guests: false # true lets users without an account relay too")
	return nil
}

// maxLiveKitTTL is the maximum lifetime of a credential in LiveKit.
const maxLiveKitTTL = 24 * time.Hour

func exportLiveKit(w io.Writer, s *setup) error {
	relays, err := s.advertised()
	if err != nil {
		return err
	}
	fmt.Fprint(w, "rtc:\n  turn_servers:\n")
	for _, relay := range relays {
		for _, server := range relay.Servers() {
			fmt.Fprintf(w, "    - host: %s\n      port: %d\n      protocol: %s\n      secret: %s\n      ttl: %d # seconds\n",
				quoted(relay.Server.V), server.Port, server.Transport, quoted(string(relay.Secrets.V[0].Bytes())), int(min(relay.TTL.V, maxLiveKitTTL).Seconds()))
		}
	}
	return nil
}

// errNoRelay is the error for an export that requires a relay in the configuration.
var errNoRelay = errors.New(`this configuration has no endpoint "turn"`)

func exportCoturn(w io.Writer, s *setup) error {
	if len(s.relays) == 0 {
		return errNoRelay
	}
	relay := s.relays[0]
	if relay.NeedsCertificate() {
		pair := certs.SelfSignedPair(s.stateDir)
		if _, err := os.Stat(pair.Cert); err != nil {
			return fmt.Errorf(`endpoint "turn" has no certificate yet: %w: start mailturn, which generates it, or add a tls block`, err)
		}
		relay.TLS = []certs.Pair{pair}
	}
	return coturn.Export(w, relay)
}

func exportEnv(w io.Writer, s *setup) error {
	if len(s.relays) == 0 {
		return errNoRelay
	}
	relays, err := s.advertised()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(relays, func(c issuer.Config) bool { return len(relays) == 1 || !c.Secrets.Set })
	if i < 0 {
		return errors.New("clients are told of other relays than this one, whose users are not known here")
	}
	users := s.relays[0].Users
	for _, name := range slices.Sorted(maps.Keys(users)) {
		password := string(users[name].Bytes())
		if strings.HasPrefix(password, "ha1:") {
			continue // the password itself is not known
		}
		var b strings.Builder
		if err := writeJSON(&b, []iceServer{{URLs: relays[i].URIs(), Username: name, Credential: password}}, false); err != nil {
			return err
		}
		fmt.Fprintf(w, "MATRIX_TURN_SERVERS=%s\n", shellQuoted(strings.TrimSpace(b.String())))
		return nil
	}
	return errors.New(`endpoint "turn" has no user with a plain-text password, and an issued credential would expire: add users = { "NAME" = "PASSWORD" }`)
}
