package acme

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

// TestSharedPort obtains certificates with tls-alpn-01 on a port that three endpoints and a fallback share. Challenges for names that
// are not mailturn's are for the fallback.
func TestSharedPort(t *testing.T) {
	t.Parallel()
	fallback, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer fallback.Close()
	a := newAuthority(t, world{validity: 90 * 24 * time.Hour})
	a.serve(t)
	port := fmt.Sprintf("127.0.0.1:%d", a.challenge)
	s := &server{imap: port, turn: port, http: port, dir: t.TempDir(), log: &logBuffer{}}
	s.configure(t, a.block("agree_to_terms = true", `challenge = "tls-alpn-01"`))
	text, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, "shared_port %q {\n  fallback = %q\n}\n", "tls://"+port, "tcp://"+fallback.Addr().String())
	if err := os.WriteFile(s.file(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(t)
	s.checkMetrics(t, s.awaitIssued(t, anyCertificate))
	go tls.Dial("tcp", port, &tls.Config{ServerName: "www.example.test", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}})
	conn, err := fallback.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
