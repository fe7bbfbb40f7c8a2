package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mailturn/mailturn/endpoint/imap/patient"
)

// maxStartTLSLines bounds the lines until STARTTLS is answered.
const maxStartTLSLines = 16

// startTLS does STARTTLS with the server before anything from the client passes (RFC 9051 section 6.2.1). The connection that it returns
// begins with the greeting, without its capabilities: they were sent unencrypted and have to be forgotten.
//
// It fails if the server logs the client in before TLS (PREAUTH), and if anything follows the answer to STARTTLS: both are ways in
// which an attacker on the path injects data into the encrypted session.
func startTLS(ctx context.Context, raw *patient.Conn, config *tls.Config, greeting, ahead []byte) (*greetedConn, error) {
	if IsPreauth(greeting) {
		return nil, errors.New("greeted with PREAUTH, which rules out STARTTLS")
	}
	if _, err := io.WriteString(raw, "mailturn STARTTLS\r\n"); err != nil {
		return nil, fmt.Errorf("STARTTLS: %w", err)
	}
	ahead, err := readStartTLSAnswer(raw, ahead)
	if err != nil {
		return nil, fmt.Errorf("STARTTLS: %w", err)
	}
	if len(ahead) > 0 {
		return nil, fmt.Errorf("STARTTLS: %d unencrypted bytes after the answer", len(ahead))
	}
	tlsConn := tls.Client(raw, config)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return &greetedConn{tlsConn, raw, withoutCapabilities(greeting)}, nil
}

// readStartTLSAnswer reads up to the tagged OK and returns what was read after it.
func readStartTLSAnswer(r io.Reader, ahead []byte) (rest []byte, err error) {
	for range maxStartTLSLines {
		var line []byte
		if line, ahead, err = readLine(r, ahead); err != nil {
			return nil, err
		}
		status, _ := splitUntagged(line)
		tag, answer, _ := bytes.Cut(line, []byte(" "))
		answer, _, _ = bytes.Cut(bytes.TrimSpace(answer), []byte(" "))
		switch {
		case status == "BYE", string(tag) != "*" && string(tag) != "mailturn":
			return nil, fmt.Errorf("answered %.60q", line)
		case string(tag) == "*":
		case strings.EqualFold(string(answer), "OK"):
			return ahead, nil
		default:
			return nil, fmt.Errorf("refused with %.60q", line)
		}
	}
	return nil, fmt.Errorf("no answer in %d lines", maxStartTLSLines)
}

// withoutCapabilities returns the greeting without its response code, if that is CAPABILITY.
func withoutCapabilities(greeting []byte) []byte {
	status, text := splitUntagged(greeting)
	code, rest, found := strings.Cut(text, "]")
	if word, _, _ := strings.Cut(code, " "); !found || !strings.EqualFold(word, "[CAPABILITY") {
		return greeting
	}
	if rest = strings.TrimLeft(rest, " "); rest == "" {
		rest = "Ready" // RFC 9051's resp-text is not empty
	}
	return fmt.Appendf(nil, "* %s %s\r\n", status, rest)
}
