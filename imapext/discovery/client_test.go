package discovery

import (
	"bufio"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// script is a server that follows a script: it expects the lines with "C: ", which are commands without their tags, and "R: ",
// which continue a command, and sends those with "S: ". The word TAG stands for the tag of the last command. "COMPRESS" alone
// switches both directions to DEFLATE.
func script(t *testing.T, lines ...string) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() {
		defer server.Close()
		done <- play(server, lines)
	}()
	t.Cleanup(func() {
		client.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return client
}

func play(conn net.Conn, lines []string) error {
	r, w, tag := bufio.NewReader(conn), io.Writer(conn), ""
	flush := func() error { return nil }
	for _, line := range lines {
		switch kind, text, _ := strings.Cut(line, ": "); kind {
		case "C":
			got, err := r.ReadString('\n')
			if err != nil {
				return fmt.Errorf("waiting for %q: %w", text, err)
			}
			var rest string
			tag, rest, _ = strings.Cut(strings.TrimSuffix(got, "\r\n"), " ")
			if rest != text {
				return fmt.Errorf("got the command %q, want %q", rest, text)
			}
		case "R":
			if got, err := r.ReadString('\n'); err != nil || got != text+"\r\n" {
				return fmt.Errorf("got the line %q, %v, want %q", got, err, text)
			}
		case "S":
			if _, err := io.WriteString(w, strings.ReplaceAll(text, "TAG", tag)+"\r\n"); err != nil {
				return err
			}
			if err := flush(); err != nil {
				return err
			}
		case "COMPRESS":
			compressor, _ := flate.NewWriter(conn, 1)
			r, w, flush = bufio.NewReader(flate.NewReader(r)), compressor, compressor.Flush
		}
	}
	return nil
}

// plain connects Discover to a script.
type plain struct{ conn net.Conn }

func (p plain) DialContext(context.Context, string, string) (net.Conn, error) { return p.conn, nil }

// first is core's first request, byte for byte after the tag.
const first = `C: GETMETADATA "" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay /shared/vendor/deltachat/turn /shared/vendor/deltachat/maxsmtprecipients /shared/vendor/deltachat/appversions)`

func TestDiscover(t *testing.T) {
	greeting := "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready"
	login := `C: LOGIN "alice" "a\"b\\c"`
	in := "S: TAG OK [CAPABILITY IMAP4rev1 METADATA] Logged in"
	bye := []string{"C: LOGOUT", "S: * BYE", "S: TAG OK"}
	for _, tt := range []struct {
		name   string
		script []string
		host   string // of the value; empty for a fallback
		reason error  // of the fallback
		err    error
	}{
		{"good", append([]string{greeting, login, in, first, `S: * METADATA "" (/shared/vendor/deltachat/turn "h:3478:1758650868:pw")`, "S: TAG OK"}, bye...), "h", nil, nil},
		{"as a literal", append([]string{greeting, login, in, first, "S: * METADATA \"\" (/shared/comment NIL /shared/vendor/deltachat/turn {8}", "S: h:1:5:pw)", "S: TAG OK"}, bye...), "h", nil, nil},
		{"two responses", append([]string{greeting, login, in, first, `S: * METADATA "" (/shared/comment "x")`, "S: * 3 EXISTS", `S: * METADATA "" (/shared/vendor/deltachat/turn "h:3478:5:pw")`, "S: TAG OK"}, bye...), "h", nil, nil},
		{"capabilities asked for", append([]string{greeting, login, "S: TAG OK Logged in", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1 METADATA", "S: TAG OK", first, `S: * METADATA "" (/shared/vendor/deltachat/turn "h:3478:5:pw")`, "S: TAG OK"}, bye...), "h", nil, nil},
		{"a list with two spaces in the OK is asked for again", []string{greeting, login, "S: TAG OK [CAPABILITY IMAP4rev1  METADATA] in", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1", "S: TAG OK"}, "", ErrNoCapability, nil},
		{"metadata only before login", []string{"S: * OK [CAPABILITY IMAP4rev1 METADATA] ready", login, "S: TAG OK [CAPABILITY IMAP4rev1] in"}, "", ErrNoCapability, nil},
		{"compressed", append([]string{greeting, login, "S: TAG OK [CAPABILITY IMAP4rev1 METADATA COMPRESS=DEFLATE] in", "C: COMPRESS DEFLATE", "S: TAG OK", "COMPRESS", first, `S: * METADATA "" (/shared/vendor/deltachat/turn "h:3478:5:pw")`, "S: TAG OK"}, bye...), "h", nil, nil},
		{"refused", []string{greeting, login, in, first, "S: TAG NO not today"}, "", ErrNoEntry, nil},
		{"no entry", append([]string{greeting, login, in, first, "S: TAG OK"}, bye...), "", ErrNoEntry, nil},
		{"another mailbox's entry", append([]string{greeting, login, in, first, `S: * METADATA "INBOX" (/shared/vendor/deltachat/turn "h:3478:5:pw")`, "S: TAG OK"}, bye...), "", ErrNoEntry, nil},
		{"bad value", append([]string{greeting, login, in, first, `S: * METADATA "" (/shared/vendor/deltachat/turn "h:3478:alice:pw")`, "S: TAG OK"}, bye...), "", ErrBadValue, nil},
		{"unparsable", []string{greeting, login, in, first, `S: * METADATA "" ()`}, "", nil, ErrUnparsable},
		{"no IMAP4rev1", []string{greeting, login, "S: TAG OK in", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev2", "S: TAG OK"}, "", nil, ErrUnparsable},
		{"two spaces", []string{greeting, login, "S: TAG OK in", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1  METADATA", "S: TAG OK"}, "", nil, ErrUnparsable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options := Options{Host: "mail.example.org", Port: 143, Security: Plain, Credentials: Credentials{Username: "alice", Password: `a"b\c`}, Dialer: plain{script(t, tt.script...)}}
			d, err := Discover(t.Context(), options)
			if !errors.Is(err, tt.err) || (err != nil) != (tt.err != nil) {
				t.Fatalf("got the error %v, want %v", err, tt.err)
			}
			if err == nil && (d.Value.Hostname != tt.host || d.Fallback != (tt.host == "") || !errors.Is(d.Reason, tt.reason)) {
				t.Errorf("got host %q, fallback %v because %v", d.Value.Hostname, d.Fallback, d.Reason)
			}
		})
	}
}

func TestDiscoverStatusError(t *testing.T) {
	for _, tt := range []struct {
		name    string
		script  []string
		command string
	}{
		{"wrong password", []string{"S: * OK ready", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1 AUTH=PLAIN", "S: TAG OK", `C: LOGIN "alice" "pw"`, "S: TAG NO authentication failed"}, "LOGIN"},
		{"BYE as the greeting", []string{"S: * BYE too many"}, "greeting"},
		{"BYE during login", []string{"S: * OK ready", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1 AUTH=PLAIN", "S: TAG OK", `C: LOGIN "alice" "pw"`, "S: * BYE shutting down"}, "LOGIN"},
		{"BYE after login", []string{"S: * OK ready", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1 AUTH=PLAIN", "S: TAG OK", `C: LOGIN "alice" "pw"`, "S: TAG OK [CAPABILITY IMAP4rev1 METADATA] in", first, "S: * BYE shutting down"}, "GETMETADATA"},
		{"compression refused", []string{"S: * OK ready", "C: CAPABILITY", "S: * CAPABILITY IMAP4rev1 AUTH=PLAIN", "S: TAG OK", `C: LOGIN "alice" "pw"`, "S: TAG OK [CAPABILITY IMAP4rev1 METADATA COMPRESS=DEFLATE] in", "C: COMPRESS DEFLATE", "S: TAG NO"}, "COMPRESS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Discover(t.Context(), Options{Security: Plain, Credentials: Credentials{Username: "alice", Password: "pw"}, Dialer: plain{script(t, tt.script...)}})
			if status, ok := errors.AsType[*StatusError](err); !ok || status.Command != tt.command {
				t.Errorf("got %v, want a status of %s", err, tt.command)
			}
			if err != nil && strings.Contains(err.Error(), "pw") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

// TestCapabilitiesBeforeLogin checks that a list before login, which core ignores, may be one that core cannot parse.
func TestCapabilitiesBeforeLogin(t *testing.T) {
	c, err := NewClient(t.Context(), script(t, "S: * OK ready", "C: CAPABILITY", "S: * CAPABILITY STARTTLS", "S: TAG OK",
		`C: LOGIN "alice" "pw"`, "S: TAG OK [CAPABILITY IMAP4rev1 METADATA] in"))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := c.Capabilities(t.Context()); !errors.Is(err, ErrUnparsable) {
		t.Errorf("before login: got %q, %v", list, err)
	}
	if list, err := c.LogIn(t.Context(), Credentials{Username: "alice", Password: "pw"}); err != nil || !Has(list, "METADATA") {
		t.Errorf("after login: got %q, %v", list, err)
	}
}

// TestNoValueInAnError checks that the rest of a literal that was announced too short is not in the error.
func TestNoValueInAnError(t *testing.T) {
	c, err := NewClient(t.Context(), script(t, "S: * OK ready", `C: GETMETADATA "" (/shared/vendor/deltachat/turn /shared/vendor/deltachat/appversions)`,
		"S: * METADATA \"\" (/shared/vendor/deltachat/turn {1}", "S: h)", "S: :3478:5:hunter2)"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetMetadata(t.Context(), refreshEntries); !errors.Is(err, ErrUnparsable) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// refreshEntries are the entries in core's later requests.
var refreshEntries = []string{TURNEntry, "/shared/vendor/deltachat/appversions"}

// TestRefresh checks core's second request, byte for byte.
func TestRefresh(t *testing.T) {
	c, err := NewClient(t.Context(), script(t, "S: * OK ready", `C: GETMETADATA "" (/shared/vendor/deltachat/turn /shared/vendor/deltachat/appversions)`, "S: TAG OK"))
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := c.GetMetadata(t.Context(), refreshEntries); err != nil || entries != nil {
		t.Errorf("got %v, %v", entries, err)
	}
}

// TestBounds checks servers that never stop sending.
func TestBounds(t *testing.T) {
	for _, tt := range []struct {
		name string
		send func(w io.Writer) error
		want string
	}{
		{"a line", func(w io.Writer) error { _, err := io.WriteString(w, strings.Repeat("x", 4096)); return err }, "bytes"},
		{"a literal", func(w io.Writer) error {
			_, err := io.WriteString(w, "* METADATA \"\" (/shared/comment {2000000000}\r\n")
			return err
		}, "bytes"},
		{"many responses", func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("* 1 EXISTS\r\n", 100))
			return err
		}, "bytes"},
		{"many values", func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "* METADATA \"\" (/shared/comment {100000}\r\n%0100000d)\r\n", 0)
			return err
		}, "bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, server := net.Pipe()
			defer conn.Close()
			go func() {
				defer server.Close()
				io.WriteString(server, "* OK ready\r\n")
				bufio.NewReader(server).ReadString('\n')
				for tt.send(server) == nil {
				}
			}()
			c, err := NewClient(t.Context(), conn)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.GetMetadata(t.Context(), refreshEntries); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error about %s", err, tt.want)
			}
		})
	}
}

// TestContextEndsARead checks a server that sends nothing.
func TestContextEndsARead(t *testing.T) {
	conn, server := net.Pipe()
	defer conn.Close()
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := NewClient(ctx, conn); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// FuzzClient runs Discover against a server that sends anything.
func FuzzClient(f *testing.F) {
	f.Add([]byte("* OK ready\r\nA0001 OK [CAPABILITY IMAP4rev1 METADATA] in\r\n* METADATA \"\" (/shared/comment {1}\r\nx)\r\nA0002 OK\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, server := net.Pipe()
		defer conn.Close()
		go io.Copy(io.Discard, server)
		go func() {
			server.Write(sent)
			server.Close()
		}()
		d, err := Discover(t.Context(), Options{Security: Plain, Credentials: Credentials{Username: "u", Password: "p"}, Dialer: plain{conn}})
		if err == nil && len(d.Servers()) == 0 {
			t.Error("neither servers nor an error")
		}
	})
}
