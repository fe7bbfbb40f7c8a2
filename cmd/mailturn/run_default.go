package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/mailturn/mailturn/framework/atomicfile"
	"github.com/mailturn/mailturn/framework/bounded"
	"github.com/mailturn/mailturn/framework/config"
)

//go:embed default.conf
var defaultConfig []byte

// demoUser is the account of the embedded default. The first run generates its password.
const demoUser = "demo@localhost"

// runDefault serves the embedded default and prints how to check it.
func runDefault(ctx context.Context, stateDir string, stdout, stderr io.Writer) error {
	if stateDir == "" {
		stateDir = defaultStateDir()
	}
	if stateDir == "" {
		return errNoStateDir
	}
	stateDir, err := filepath.Abs(stateDir)
	if err != nil {
		return err
	}
	password, err := demoPassword(stateDir)
	if err != nil {
		return err
	}
	s, err := decodeDefault(stateDir, stderr)
	if err != nil {
		return err
	}
	if limit, ok := openFilesLimit(); ok {
		s.fitDescriptors(limit, slog.New(slog.DiscardHandler)) // nobody configured the limits, so nobody is told
	}
	err = s.serve(ctx, stderr, func() { printChecks(stdout, s, password) }, nil, nil)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; or try --config maddy.conf.example, which uses other ports", err)
	}
	return err
}

// decodeDefault decodes the embedded default with its state in stateDir.
func decodeDefault(stateDir string, stderr io.Writer) (*setup, error) {
	preamble := hclwrite.NewEmptyFile()
	preamble.Body().SetAttributeValue("state_dir", cty.StringVal(stateDir))
	file, diags := config.Parse("embedded default", append(preamble.Bytes(), defaultConfig...))
	var s *setup
	if !diags.HasErrors() {
		decoded, decodeDiags := decode(file, stateDir)
		s, diags = decoded, append(diags, decodeDiags...)
	}
	if diags.HasErrors() {
		return nil, errors.Join(file.WriteDiagnostics(stderr, diags), errReported)
	}
	return s, nil // its warnings, such as that of the self-signed certificate, tell nothing new
}

// demoPassword returns the password of the demo account, which is kept in the state directory.
func demoPassword(stateDir string) (string, error) {
	path := filepath.Join(stateDir, "demo.password")
	text, _, err := bounded.ReadFile(path, bounded.MaxFile)
	if err == nil {
		return string(text), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the demo account's password: %w", err)
	}
	password := rand.Text()
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return "", fmt.Errorf("store the demo account's password: %w: choose another directory with --state-dir", err)
	}
	attributes, err := atomicfile.In(stateDir, 0o600)
	if err == nil {
		err = atomicfile.Replace(path, []byte(password), attributes)
	}
	if err != nil {
		return "", fmt.Errorf("store the demo account's password: %w", err)
	}
	return password, nil
}

// goRun matches the files that "go run" builds: for one run, or in the build cache.
var goRun = regexp.MustCompile(`[/\\](go-build[0-9]*|[0-9a-f]{64}-d)[/\\]`)

// program returns the shell command for this program, whose file is executable. A file built by "go run" no longer exists when the
// command is pasted, so it is "go run" again.
func program(executable string, err error) string {
	switch {
	case err != nil:
		return "mailturn"
	case goRun.MatchString(executable):
		return "go run " + buildInfo().Path
	}
	return "'" + executable + "'"
}

// printChecks prints commands that test both halves, ready to paste into a shell.
func printChecks(w io.Writer, s *setup, password string) {
	server, relay := s.imaps[0], s.relays[0]
	issued := server.TURN.Issue(time.Now())
	fmt.Fprintf(w, `mailturn is serving a demo on loopback. The relay accepts loopback peers, because it listens
only on loopback; a relay with your own configuration refuses them unless "peers" allows them.

  account   %[1]s, password %[2]s
  IMAP      %[3]s
  TURN      %[4]s
  state     %[5]s

Do what a mail client does, from the login to packets through the relay and back:

  %[13]s probe --ca '%[6]s' --password-file '%[5]s/demo.password' imaps://%[14]s@localhost:%[15]d

Ask for the relay as a mail client does (openssl):

  printf 'a LOGIN %[1]s %[2]s\nb GETMETADATA "" (/shared/vendor/deltachat/turn /shared/vendor/deltachat/turns)\nc LOGOUT\n' | \
    openssl s_client -quiet -crlf -verify_return_error -CAfile '%[6]s' -connect %[7]s

Send packets through the relay from one client to another (turnutils_uclient, from coturn, whose package
also starts a TURN server unless you run "systemctl mask coturn" first; add -t for TCP, -t -S and port
%[12]d for TLS):

  turnutils_uclient -y -m 2 -n 20 -u %[8]s -w '%[9]s' -p %[10]d %[11]s

Stop with Ctrl-C.
`, demoUser, password, join(server.Listen, " "), join(relay.Listen, " "), s.stateDir,
		server.TLS[0].Cert, server.Listen[0].HostPort(),
		issued.Username, issued.Password, server.TURN.Port.V, server.TURN.Server.V,
		server.TURN.TLSPort.V, program(os.Executable()), strings.Replace(demoUser, "@", "%40", 1), server.Listen[0].Port)
}
