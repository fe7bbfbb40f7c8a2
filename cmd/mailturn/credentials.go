package main

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailturn/mailturn/endpoint/imap"
	"github.com/mailturn/mailturn/endpoint/issuer"
	"github.com/mailturn/mailturn/framework/control"
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
that user's is printed.

If the configuration has no secret and the relay has not generated one yet, it is generated now:
turn.secret in state_dir, which belongs to the owner of that directory. Nothing else is written.`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			s, err := loadOrDefault(configFile, stateDir, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if _, err := s.takeSecret(); err != nil {
				return err
			}
			first, err := s.firstAdvertised()
			if err != nil {
				return err
			}
			advertised := first.For(user)
			issued := advertised.IssueFor(user, time.Now())
			report := reportCredential(advertised, issued)
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), []iceServer{report.iceServer}, true)
			}
			if user != "" {
				report.TURN, report.TURNS = "", "" // Delta Chat could not parse them
			}
			report.writeTo(cmd.OutOrStdout())
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

// iceServer is an RTCIceServer dictionary (W3C WebRTC section 4.2.4).
type iceServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// credentialReport is a credential as it is printed, and the response to POST /v1/credentials. TURN and TURNS are the values of
// Delta Chat's two entries.
type credentialReport struct {
	iceServer
	Expires time.Time `json:"expires"`
	TURN    string    `json:"turn,omitempty"`
	TURNS   string    `json:"turns,omitempty"`
}

func reportCredential(advertised issuer.Config, issued credential.Credential) credentialReport {
	report := credentialReport{
		iceServer: iceServer{URLs: advertised.URIs(), Username: issued.Username, Credential: issued.Password},
		Expires:   issued.Expires,
	}
	report.TURN, report.TURNS = advertised.Values(issued)
	return report
}

// writeTo prints the credential for people.
func (c credentialReport) writeTo(w io.Writer) {
	for _, line := range [][2]string{
		{imap.TURNEntry, c.TURN}, {imap.TURNSEntry, c.TURNS}, {"username", c.Username}, {"password", c.Credential},
		{"expires", c.Expires.Format(time.RFC3339)},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%-35s %s\n", line[0], printable(line[1]))
		}
	}
}

// writeJSON writes v as JSON and a line break, over several lines if indent is set.
func writeJSON(w io.Writer, v any, indent bool) error {
	var indentation string
	if indent {
		indentation = "  "
	}
	text, err := control.Encode(v, indentation)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// join lists values for people.
func join[T fmt.Stringer](values []T, separator string) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, v.String())
	}
	return strings.Join(texts, separator)
}
