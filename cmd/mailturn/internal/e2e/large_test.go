package e2e

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// TestHundredMegabytes checks that a message of 100 MB passes to Dovecot and back through TLS unchanged, and is never in mailturn's
// memory as a whole.
func TestHundredMegabytes(t *testing.T) {
	const size = 100_000_000
	p := startProxy(t, startDovecot(t, dovecot.Options{}).Addr)
	conn, err := p.dialTLS()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	r := bufio.NewReader(conn)
	expect := func(prefix string) string {
		t.Helper()
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("waiting for %q: %v", prefix, err)
			}
			if strings.HasPrefix(line, prefix) {
				return line
			}
		}
	}
	expect("* OK")
	fmt.Fprintf(conn, "a LOGIN %s %s\r\n", newUser(), dovecot.Password)
	expect("a OK")
	before := peakMemory(t, p)

	fmt.Fprintf(conn, "b APPEND INBOX {%d}\r\n", size)
	expect("+")
	sent := sha256.New()
	if err := writeRandom(io.MultiWriter(conn, sent), size); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "\r\n")
	expect("b OK")
	io.WriteString(conn, "c EXAMINE INBOX\r\nd FETCH 1 BODY.PEEK[]\r\n")
	expect("c OK")
	if line, want := expect("* 1 FETCH"), fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n", size); line != want {
		t.Fatalf("got %q, want %q", line, want)
	}
	got := sha256.New()
	if _, err := io.CopyN(got, r, size); err != nil {
		t.Fatal(err)
	}
	expect("d OK")
	if string(got.Sum(nil)) != string(sent.Sum(nil)) {
		t.Error("another message came back")
	}
	if grown := peakMemory(t, p) - before; grown > 40<<20 {
		t.Errorf("mailturn's memory grew by %d bytes over a message of %d", grown, size)
	}
}

// writeRandom writes size random bytes of the kind that mail has, in lines.
func writeRandom(w io.Writer, size int) error {
	out := bufio.NewWriterSize(w, 64<<10)
	random := rand.New(rand.NewPCG(4, 2))
	for i := range size {
		switch i % 80 {
		case 78:
			out.WriteByte('\r')
		case 79:
			out.WriteByte('\n')
		default:
			out.WriteByte(' ' + byte(random.IntN(95)))
		}
	}
	return out.Flush()
}

// peakMemory is the most that mailturn has had resident so far, in bytes.
func peakMemory(t *testing.T, p *proxy) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		lacks(t, "needs Linux's /proc: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); fields[0] == "VmHWM:" {
			kilobytes, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatal("no VmHWM in /proc")
	return 0
}
