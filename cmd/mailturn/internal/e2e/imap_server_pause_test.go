package e2e

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// newMailClient is for a connection on which nothing has been read.
func newMailClient(conn net.Conn) *mailClient { return &mailClient{conn, bufio.NewReader(conn)} }

const (
	// pausedSize is the size of the message, of which the buffers of sockets hold a part.
	pausedSize = 24_000_000 // in whole lines
	pause      = 3 * time.Second
)

// store appends a message to the INBOX of a user and returns its hash.
func (s imapServer) store(t *testing.T, dial dialer, user string) string {
	t.Helper()
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(stepLimit))
	c, err := loginTo(conn, user)
	if err != nil {
		t.Fatal(err)
	}
	const header = "Subject: large\r\n\r\n"
	fmt.Fprintf(conn, "a APPEND INBOX {%d}\r\n", len(header)+pausedSize)
	if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+") {
		t.Fatalf("APPEND is answered %q, %v", line, err)
	}
	sum := sha256.New()
	out := io.MultiWriter(conn, sum)
	io.WriteString(out, header)
	if err := writeRandom(out, pausedSize); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "\r\n")
	if answer, err := c.answer("a"); err != nil || !strings.HasPrefix(answer, "a OK") {
		t.Fatalf("APPEND is answered %q, %v", answer, err)
	}
	return string(sum.Sum(nil))
}

var bodyResponse = regexp.MustCompile(`BODY\[\] \{(\d+)\}\r\n$`)

// fetch reads the message, with pause called in its midst, and returns its hash.
func (s imapServer) fetch(conn net.Conn, user string, pause func()) (string, error) {
	conn.SetDeadline(time.Now().Add(stepLimit))
	c, err := loginTo(conn, user)
	if err != nil {
		return "", err
	}
	if answer, err := c.command("a SELECT INBOX"); err != nil {
		return answer, err
	}
	io.WriteString(conn, "b FETCH 1 BODY.PEEK[]\r\n")
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	m := bodyResponse.FindStringSubmatch(line)
	if m == nil {
		return "", fmt.Errorf("FETCH is answered %q", line)
	}
	var size int64
	fmt.Sscan(m[1], &size)
	sum := sha256.New()
	if _, err := io.CopyN(sum, c.r, size/3); err != nil {
		return "", err
	}
	pause()
	if _, err := io.CopyN(sum, c.r, size-size/3); err != nil {
		return "", err
	}
	if line, err := c.r.ReadString('\n'); err != nil || line != ")\r\n" {
		return "", fmt.Errorf("after the message there is %q, %v", line, err)
	}
	if answer, err := c.answer("b"); err != nil || !strings.HasPrefix(answer, "b OK") {
		return "", fmt.Errorf("FETCH is answered %q, %v", answer, err)
	}
	return string(sum.Sum(nil)), nil
}

func checkPause(t *testing.T, s imapServer, p *proxy) string {
	user := s.user()
	want := s.store(t, p.dialTLS, user)
	other, err := p.dialTLS()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	busy, err := loginTo(other, s.user())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := p.dialTLS()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*tls.Conn).NetConn().(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	answered := 0
	got, err := s.fetch(conn, user, func() {
		// Another client is served meanwhile.
		for end := time.Now().Add(pause); time.Now().Before(end); answered++ {
			answer, err := busy.command(fmt.Sprintf(`b%d GETMETADATA "" %s`, answered, turnEntry))
			if err != nil || !strings.Contains(answer, " OK") {
				t.Errorf("another client is answered %q, %v", answer, err)
				return
			}
		}
	})
	if err != nil {
		t.Error(err)
	} else if got != want {
		t.Error("another message came back")
	}
	for _, tt := range wrongProxies {
		if tt.name != "drops a byte" {
			continue
		}
		wrong, err := s.dial(startRelay(t, s.addr, tt.wrong).addr())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.fetch(wrong, user, func() {}); err == nil && got == want {
			t.Error("a byte that is missing is not noticed")
		}
		wrong.Close()
	}
	return fmt.Sprintf("%d MB, %v", pausedSize/1_000_000, pause)
}
