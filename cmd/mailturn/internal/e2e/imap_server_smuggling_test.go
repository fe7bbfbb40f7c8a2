package e2e

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// beforeLogin is the attempt of a client that has not logged in otherwise.
const beforeLogin = "login in a line of AUTHENTICATE that is too long"

// attempts returns texts that IMAP parsers interpret differently. Each holds the line hidden, which some parsers take for a command,
// and one of them the line login too. The names say what it is within. There is no literal of more
// than 4 GB: go-imap neither asks for it nor refuses it, and mailturn ends the session after minutes.
func attempts(login, hidden string) map[string]string {
	return map[string]string{
		"literal of an unknown command":         literalOf("a NONSENSE ", hidden) + "\r\n",
		"literal8 of an unknown command":        strings.Replace(literalOf("a NONSENSE ", hidden), "{", "~{", 1) + "\r\n",
		"literal of NOOP":                       literalOf("a NOOP ", hidden) + "\r\n",
		"literal of ID":                         literalOf("a ID ", hidden) + "\r\n",
		"literal of a wrong LIST":               literalOf(literalOf("a LIST ", "x"), hidden) + "\r\n",
		"literal of a wrong FETCH":              literalOf("a FETCH 1 ", hidden) + "\r\n",
		"literal of a wrong LOGIN":              literalOf("a LOGIN ", hidden) + "\r\n",
		"literal of APPEND to no mailbox":       literalOf("a APPEND Nowhere ", hidden) + "\r\n",
		"literal of APPEND that holds answers":  literalOf("a APPEND INBOX ", "b OK done\r\n* BYE\r\n+ go\r\n"+hidden) + "\r\n",
		"literal of GETMETADATA":                literalOf(`a GETMETADATA "" `, hidden) + "\r\n",
		"literal of SETMETADATA":                literalOf(`a SETMETADATA "" (/shared/comment `, hidden) + ")\r\n",
		"literal of ENABLE":                     literalOf("a ENABLE ", hidden) + "\r\n",
		"literal of a line of IDLE":             fmt.Sprintf("a IDLE\r\nDONE {%d+}\r\n%s", len(hidden), hidden),
		"literal of IDLE":                       literalOf("a IDLE ", hidden) + "\r\n",
		"announcement within quotes":            "a LIST \"\" \"x {20+}\r\n" + hidden,
		"line end within quotes":                "a LIST \"\" \"\r\n" + hidden + "\"\r\n",
		"LF within quotes":                      "a LIST \"\" \"\n" + hidden + "\"\r\n",
		"CR within quotes":                      "a LIST \"\" \"\r" + hidden + "\"\r\n",
		"CR between two commands":               "a NOOP\r" + hidden,
		"size that does not fit 64 bits":        "a LIST \"\" {18446744073709551617+}\r\n" + hidden,
		"line that is too long":                 "a LIST \"\" " + strings.Repeat("x", 1<<16) + " " + hidden,
		"line of AUTHENTICATE that is too long": "a AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 21847) + hidden,
		// Cyrus reads what follows the first 21,847 bytes as commands.
		beforeLogin: "a AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 21847) + login + hidden,
	}
}

// attempt makes an attempt as a user over a new connection, and returns the answer.
func (s imapServer) attempt(dial dialer, name, user string) (string, error) {
	conn, err := dial()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(stepLimit))
	c := newMailClient(conn)
	if name != beforeLogin {
		if c, err = loginTo(conn, user); err != nil {
			return "", err
		}
	}
	text := attempts("l LOGIN "+user+" "+dovecot.Password+"\r\n", s.hidden())[name]
	// No more answers will arrive.
	conn.SetDeadline(time.Now().Add(time.Second))
	go func() {
		io.WriteString(conn, text)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	answer, _ := io.ReadAll(c.r)
	return string(answer), nil
}

// smuggled reports whether the user has the mailbox that the hidden command creates.
func (s imapServer) smuggled(t *testing.T, user string) bool {
	t.Helper()
	conn, err := s.dialDirect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := loginTo(conn, user)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "m LIST \"\" *\r\n")
	found := false
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "m ") {
			return found
		}
		found = found || strings.Contains(line, "smuggled")
	}
}

// hidden is the command that must not run anywhere.
func (s imapServer) hidden() string { return "x1 CREATE " + s.prefix + "smuggled\r\n" }

func checkSmuggling(t *testing.T, s imapServer, p *proxy) string {
	var alone atomic.Int64 // attempts that succeed without mailturn
	all := attempts("", "")
	t.Run("attempts", func(t *testing.T) {
		for name := range all {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				user := s.user()
				answer, err := s.attempt(p.dialTLS, name, user)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(answer, "\nx1 OK") || s.smuggled(t, user) {
					t.Errorf("the hidden command was run: %q", answer)
				}
				user = s.user()
				if _, err := s.attempt(s.dialDirect, name, user); err != nil {
					t.Fatal(err)
				}
				if s.smuggled(t, user) {
					alone.Add(1)
					t.Log("succeeds without mailturn")
				}
			})
		}
	})
	if alone.Load() == 0 {
		t.Error("no attempt succeeds without mailturn either")
	}
	return fmt.Sprintf("%d attempts, of which %d succeed without mailturn", len(all), alone.Load())
}
