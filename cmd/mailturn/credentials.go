package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/turnsrv/credential"
)

func newCredentialsCommand() *cobra.Command {
	var configFile, stateDir, user string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "credentials",
		Short: "Issue one credential, as the endpoints would",
		Long: `credentials issues one credential from the first IMAP endpoint of the configuration, or of the
embedded default, and prints it: the values that clients get over IMAP or, with --json, the
ICE servers for a WebRTC client. If no IMAP endpoint advertises a relay, the credential is from
the first HTTP endpoint that has API keys, from the dict endpoint, or else from the TURN endpoint.

With --user, the user name is EXPIRY:USER, the form of the TURN REST API, which the relay accepts
too. Delta Chat could not parse it, so no IMAP values are printed. If there are several relays,
that user's is printed.`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			s, err := loadOrDefault(configFile, stateDir, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if _, err := s.prepare(time.Now()); err != nil {
				return err
			}
			first, err := s.firstAdvertised()
			if err != nil {
				return err
			}
			advertised := first.For(user)
			issued := advertised.IssueFor(user, time.Now())
			if asJSON {
				return writeICEServers(cmd.OutOrStdout(), advertised, issued)
			}
			writeCredential(cmd.OutOrStdout(), advertised, issued, user != "")
			return nil
		}),
	}
	cmd.Flags().StringVar(&configFile, "config", "", "configuration `file` (default: the embedded default)")
	cmd.Flags().StringVar(&stateDir, "state-dir", "", "`directory` of the generated secret (default: state_dir of the configuration)")
	cmd.Flags().StringVar(&user, "user", "", "`name` to put after the expiry in the user name")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an iceServers array")
	return cmd
}

// loadOrDefault reads a configuration file, or the embedded default if filename is empty. It reports the latter, so that nobody
// mistakes its secret for that of the running server.
func loadOrDefault(filename, stateDir string, stderr io.Writer) (*setup, error) {
	if filename != "" {
		return load(filename, stateDir, stderr)
	}
	fmt.Fprintln(stderr, "mailturn: no --config given, using the embedded default on loopback.")
	stateDir = cmp.Or(stateDir, defaultStateDir())
	if stateDir == "" {
		return nil, errNoStateDir
	}
	stateDir, err := filepath.Abs(stateDir)
	if err != nil {
		return nil, err
	}
	if _, err := demoPassword(stateDir); err != nil { // the default's configuration reads it
		return nil, err
	}
	return decodeDefault(stateDir, stderr)
}

// writeCredential prints the values of the two entries, or with a named user only the user name and password.
func writeCredential(w io.Writer, advertised issuer.Config, issued credential.Credential, named bool) {
	if !named {
		turn, turns := advertised.Values(issued)
		if turn != "" {
			fmt.Fprintf(w, "%-35s %s\n", imap.TURNEntry, turn)
		}
		if turns != "" {
			fmt.Fprintf(w, "%-35s %s\n", imap.TURNSEntry, turns)
		}
	}
	fmt.Fprintf(w, "%-35s %s\n%-35s %s\n%-35s %s\n", "username", issued.Username, "password", issued.Password,
		"expires", issued.Expires.Format(time.RFC3339))
}

// iceServer is an RTCIceServer dictionary (W3C WebRTC section 4.2.4).
type iceServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

func writeICEServers(w io.Writer, advertised issuer.Config, issued credential.Credential) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode([]iceServer{{URLs: advertised.URIs(), Username: issued.Username, Credential: issued.Password}})
}

// join lists values for people.
func join[T fmt.Stringer](values []T, separator string) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, v.String())
	}
	return strings.Join(texts, separator)
}
