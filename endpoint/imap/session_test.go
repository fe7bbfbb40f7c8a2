package imap

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/mailturn/mailturn/turnsrv/credential"
)

// TestDeltaChat sends and reads what Delta Chat core does after connecting (its src/imap.rs and its IMAP library).
func TestDeltaChat(t *testing.T) {
	e := start(t, testConfig(t))
	w := dialTLS(t, e)
	w.send("A0001 LOGIN \"alice\" \"wonderland\"\r\n")
	ok := w.expect(`A0001 OK \[CAPABILITY `)
	capabilities := strings.Split(ok[len("A0001 OK [CAPABILITY "):strings.IndexByte(ok, ']')], " ")
	for _, want := range []string{"IMAP4rev1", "METADATA", "IDLE", "MOVE"} {
		n := 0
		for _, capability := range capabilities {
			if capability == want {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is in the capabilities %d times, want 1: %q", want, n, capabilities)
		}
	}

	w.send("A0002 GETMETADATA \"\" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay /shared/vendor/deltachat/turn" +
		" /shared/vendor/deltachat/maxsmtprecipients /shared/vendor/deltachat/appversions)\r\n")
	lines := w.until("A0002")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], `* METADATA "" (`) || !strings.HasPrefix(lines[1], "A0002 OK") {
		t.Fatalf("got %q, want one METADATA line and OK", lines)
	}
	for _, want := range []string{`/shared/comment "a test"`, `/shared/admin "mailto:postmaster@example.org"`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("%q does not contain %s", lines[0], want)
		}
	}
	_, rest, _ := strings.Cut(lines[0], `/shared/vendor/deltachat/turn "`)
	value, _, _ := strings.Cut(rest, `"`)
	checkTURNValue(t, value, "turn.example.org", "3478")

	w.send("A0003 GETMETADATA \"\" (/shared/vendor/deltachat/turn /shared/vendor/deltachat/appversions)\r\n")
	if lines := w.until("A0003"); !strings.Contains(lines[0], `/shared/vendor/deltachat/turn "turn.example.org:3478:`) {
		t.Errorf("refresh got %q", lines)
	}
	w.send("A0004 SETMETADATA \"INBOX\" (/private/devicetoken {11+}\r\nopenpgp:abc)\r\n")
	w.expect(`A0004 NO `)
	w.send("A0005 SELECT \"INBOX\"\r\n")
	if lines := w.until("A0005"); !strings.HasPrefix(lines[len(lines)-1], "A0005 OK") {
		t.Errorf("SELECT got %q", lines)
	}
	w.send("A0006 IDLE\r\n")
	w.expect(`\+ `)
	w.send("DONE\r\n")
	w.expect(`A0006 OK`)
	w.send("A0007 LOGOUT\r\n")
	w.expect(`\* BYE`)
	w.expect(`A0007 OK`)
	w.expectEnd()
}

// checkTURNValue reads host:port:user:password as Delta Chat does, at the first three colons.
func checkTURNValue(t *testing.T, value, host, port string) {
	t.Helper()
	fields := strings.SplitN(value, ":", 4)
	if len(fields) != 4 || fields[0] != host || fields[1] != port {
		t.Fatalf("value %q, want %s:%s:user:password", value, host, port)
	}
	seconds, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		t.Fatalf("value %q: user name is not a number", value)
	}
	left := time.Until(time.Unix(seconds, 0))
	if left < 107*time.Hour || left > 120*time.Hour {
		t.Errorf("value %q: valid for %v, want 120h or up to a tenth less", value, left)
	}
	if want := credential.Password(credential.NewSecret([]byte("test-secret")), fields[2]); fields[3] != want {
		t.Errorf("value %q: password %q, want %q", value, fields[3], want)
	}
}

func TestTURNEntries(t *testing.T) {
	for _, tt := range []struct {
		name        string
		change      func(*TURN)
		turn, turns string // host:port, empty for none
	}{
		{"both", func(*TURN) {}, "turn.example.org:3478", "turn.example.org:5349"},
		{"TLS preferred", func(c *TURN) { c.PreferTLS.V, c.UDPPort = true, 5349 }, "turn.example.org:5349", "turn.example.org:5349"},
		{"relay without UDP", func(c *TURN) { c.UDPPort = 0 }, "", "turn.example.org:5349"},
		{"relay without TLS", func(c *TURN) { c.TLSPort.V = 0 }, "turn.example.org:3478", ""},
		{"disabled", func(c *TURN) { c.Enable.V = false }, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := testConfig(t)
			tt.change(&config.TURN)
			w := dialTLS(t, start(t, config))
			w.login()
			for entry, want := range map[string]string{"turn": tt.turn, "turns": tt.turns} {
				w.send("a GETMETADATA \"\" (/shared/vendor/deltachat/%s)\r\n", entry)
				line := w.expect(`\* METADATA "" \(/shared/vendor/deltachat/` + entry + ` `)
				w.expect(`a OK`)
				_, value, _ := strings.Cut(line, entry+" ")
				if want == "" {
					if value != "NIL)" {
						t.Errorf("%s is %s, want NIL", entry, value)
					}
					continue
				}
				host, port, _ := strings.Cut(want, ":")
				checkTURNValue(t, strings.Trim(value, `")`), host, port)
			}
		})
	}
}

// TestGoIMAPClient uses another implementation's client, which sends GETMETADATA's options after the mailbox.
func TestGoIMAPClient(t *testing.T) {
	e := start(t, testConfig(t))
	client, err := imapclient.DialTLS(e.Addrs()[0].String(), &imapclient.Options{TLSConfig: clientTLS(t, e)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if client.Caps().Has(imap.CapMetadata) {
		t.Error("METADATA is announced before login")
	}
	if err := client.Login("alice", "wonderland").Wait(); err != nil {
		t.Fatal(err)
	}
	if !client.Caps().Has(imap.CapMetadata) {
		t.Error("METADATA is not announced after login")
	}
	maxSize := uint32(1000)
	for _, options := range []*imapclient.GetMetadataOptions{
		nil,
		{MaxSize: &maxSize},
		{Depth: imapclient.GetMetadataDepthInfinity},
		{MaxSize: &maxSize, Depth: imapclient.GetMetadataDepthOne},
	} {
		data, err := client.GetMetadata("", []string{"/shared/vendor/deltachat/turn"}, options).Wait()
		if err != nil {
			t.Fatalf("options %+v: %v", options, err)
		}
		value := data.Entries["/shared/vendor/deltachat/turn"]
		if value == nil {
			t.Fatalf("options %+v: got %v", options, data.Entries)
		}
		checkTURNValue(t, string(*value), "turn.example.org", "3478")
	}
	data, err := client.GetMetadata("", []string{"/shared"}, &imapclient.GetMetadataOptions{Depth: imapclient.GetMetadataDepthInfinity}).Wait()
	if err != nil || len(data.Entries) != 4 {
		t.Errorf("all entries: got %v, %v", data.Entries, err)
	}
	small := uint32(5)
	data, err = client.GetMetadata("", []string{"/shared/vendor/deltachat/turn"}, &imapclient.GetMetadataOptions{MaxSize: &small}).Wait()
	if err == nil && len(data.Entries) != 0 {
		t.Errorf("over MAXSIZE: got %v", data.Entries)
	}
	if err := client.Logout().Wait(); err != nil {
		t.Error(err)
	}
}

// TestMail stores a message through the filter and fetches it.
func TestMail(t *testing.T) {
	e := start(t, testConfig(t))
	client, err := imapclient.DialTLS(e.Addrs()[0].String(), &imapclient.Options{TLSConfig: clientTLS(t, e)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Login("bob", "builder").Wait(); err != nil {
		t.Fatal(err)
	}
	// These lines would be commands or responses outside a literal.
	body := strings.Repeat("a1 OK [CAPABILITY IMAP4rev1]\r\n* METADATA \"\" ()\r\nx LOGOUT {5+}\r\n\xff\x00", 30000)
	message := "Subject: test\r\n\r\n" + body
	appending := client.Append("INBOX", int64(len(message)), nil)
	if _, err := io.WriteString(appending, message); err != nil {
		t.Fatal(err)
	}
	if err := appending.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := appending.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	section := &imap.FetchItemBodySection{}
	messages, err := client.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil || len(messages) != 1 {
		t.Fatalf("FETCH: %d messages, %v", len(messages), err)
	}
	if got := string(messages[0].FindBodySection(section)); got != message {
		t.Errorf("message came back changed: %d bytes of %d", len(got), len(message))
	}
}

func TestStartTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		w := dialPipe(t, e, outside, false)
		if greeting := w.expect(`\* OK \[CAPABILITY `); !strings.Contains(greeting, " STARTTLS") ||
			!strings.Contains(greeting, " LOGINDISABLED") || strings.Contains(greeting, "AUTH=") {
			t.Errorf("greeting before TLS: %q", greeting)
		}
		w.send("a LOGIN alice wonderland\r\n")
		w.expect(`a NO \[PRIVACYREQUIRED\]`)
		w.send("b AUTHENTICATE PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\r\n")
		w.expect(`b NO \[PRIVACYREQUIRED\]`)
		w.send("c STARTTLS\r\n")
		w.expect(`c OK`)

		tlsConn := tls.Client(w.conn, clientTLS(t, e))
		w = newPipeWire(t, tlsConn)
		w.send("d CAPABILITY\r\n")
		if line := w.expect(`\* CAPABILITY `); strings.Contains(line, "STARTTLS") || strings.Contains(line, "LOGINDISABLED") ||
			!strings.Contains(line, "AUTH=PLAIN") || strings.Contains(line, "METADATA") {
			t.Errorf("capabilities with TLS: %q", line)
		}
		w.expect(`d OK`)
		w.send("e STARTTLS\r\n")
		w.expect(`e BAD`)
		w.login()
	})
}

func newPipeWire(t *testing.T, conn net.Conn) *wire {
	w := &wire{t: t, conn: conn}
	w.r = newReader(conn)
	return w
}

// TestStartTLSInjection sends unencrypted commands after STARTTLS, as an attacker in the middle would: they must not run
// inside TLS (RFC 9051 section 6.2.1).
func TestStartTLSInjection(t *testing.T) {
	e := start(t, testConfig(t))
	w := dialPlain(t, e)
	w.send("a STARTTLS\r\nb LOGIN alice wonderland\r\nc CREATE injected\r\n")
	w.expect(`a OK`)
	w = newWire(t, tls.Client(w.conn, clientTLS(t, e)))
	w.send("d NOOP\r\n")
	w.expect(`d OK`) // without answers to b and c
	w.send("e LIST \"\" *\r\n")
	w.expect(`e BAD`) // nobody has logged in
}

func TestPlaintextLogin(t *testing.T) {
	for _, tt := range []struct {
		name         string
		client       string
		insecureAuth bool
		allowed      bool
	}{
		{"from outside", "192.0.2.7:1", false, false},
		{"from outside, allowed", "192.0.2.7:1", true, true},
		{"from loopback", "127.0.0.1:1", false, true},
		{"from IPv6 loopback", "[::1]:1", false, true},
		{"from a private network", "10.0.0.1:1", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := testConfig(t)
				config.InsecureAuth = tt.insecureAuth
				w := dialPipe(t, startPipes(t, config), netip.MustParseAddrPort(tt.client), false)
				if greeting := w.expect(`\* OK `); strings.Contains(greeting, "LOGINDISABLED") == tt.allowed {
					t.Errorf("greeting is %q", greeting)
				}
				w.send("a LOGIN alice wonderland\r\n")
				if tt.allowed {
					w.expect(`a OK`)
				} else {
					w.expect(`a NO`)
				}
			})
		})
	}
}

// TestLoginRefused checks that the answers to a wrong password and to an unknown user are the same, after the same time, and
// contain the word by which Delta Chat recognizes a wrong password.
func TestLoginRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		config.Users["carol"] = credential.NewSecret(bcryptOf(t, "secret"))
		w := dialPipe(t, startPipes(t, config), outside, true)
		w = newPipeWire(t, tls.Client(w.conn, &tls.Config{InsecureSkipVerify: true}))
		w.expect(`\* OK`)
		texts := make(map[string]bool)
		for i, command := range []string{
			"LOGIN alice nonsense", "LOGIN nobody nonsense", "LOGIN carol nonsense", `LOGIN alice ""`, `LOGIN "" ""`,
			"AUTHENTICATE PLAIN AGFsaWNlAG5vbnNlbnNl", // alice, nonsense
		} {
			begin := time.Now()
			tag := fmt.Sprintf("t%d", i)
			w.send("%s %s\r\n", tag, command)
			line := w.expect(tag + ` NO \[AUTHENTICATIONFAILED\] `)
			texts[strings.TrimPrefix(line, tag)] = true
			if took := time.Since(begin); took != 2*time.Second {
				t.Errorf("%s was answered after %v, want %v", command, took, 2*time.Second)
			}
			if !strings.Contains(strings.ToLower(line[strings.IndexByte(line, ']'):]), "authentication") {
				t.Errorf("%q does not contain the word authentication", line)
			}
		}
		if len(texts) != 1 {
			t.Errorf("answers differ: %v", texts)
		}
		begin := time.Now()
		w.send("a LOGIN carol secret\r\n")
		w.expect(`a OK`)
		if took := time.Since(begin); took != 0 {
			t.Errorf("a successful login took %v", took)
		}
	})
}

// TestLoginTimeout checks that nothing that a client does before login extends its time.
func TestLoginTimeout(t *testing.T) {
	for _, tt := range []struct {
		name string
		step func(w *wire) // every second
	}{
		{"silence", func(*wire) {}},
		{"one byte a second", func(w *wire) { w.conn.Write([]byte("A")) }},
		{"one command a second", func(w *wire) { w.conn.Write([]byte("a NOOP\r\n")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := startPipes(t, testConfig(t))
				begin := time.Now()
				w := dialPipe(t, e, outside, false)
				ended := make(chan struct{})
				go func() {
					for {
						select {
						case <-ended:
							return
						case <-time.After(time.Second):
							tt.step(w)
						}
					}
				}()
				all, err := io.ReadAll(w.r)
				close(ended)
				if took := time.Since(begin); took != time.Minute {
					t.Errorf("connection ended after %v (%v), want a minute", took, err)
				}
				if lines := strings.Split(string(all), "\r\n"); !strings.HasPrefix(lines[len(lines)-2], "* BYE Autologout") {
					t.Errorf("last line is %q, want BYE", lines[len(lines)-2])
				}
				synctest.Wait()
				if len(e.unauthenticated) != 0 || e.connections != 0 {
					t.Errorf("the connection is still counted: %v, %d", e.unauthenticated, e.connections)
				}
			})
		})
	}
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := dialPipe(t, startPipes(t, testConfig(t)), netip.MustParseAddrPort("127.0.0.1:1"), false)
		w.expect(`\* OK`)
		w.login()
		time.Sleep(30 * time.Minute)
		w.send("a SELECT INBOX\r\n")
		w.until("a")
		for range 3 { // IDLE renewed every 29 minutes, RFC 9051 section 6.3.13
			w.send("b IDLE\r\n")
			w.expect(`\+`)
			time.Sleep(29 * time.Minute)
			w.send("DONE\r\n")
			w.expect(`b OK`)
		}
		begin := time.Now()
		w.send("c IDLE\r\n")
		w.expect(`\+`)
		w.expect(`\* BYE Autologout`)
		if took := time.Since(begin); took != 31*time.Minute {
			t.Errorf("idle connection ended after %v, want 31m", took)
		}
		w.expectEnd()
	})
}

// TestClientNeverReads checks that a client that sends commands and does not read ends its own session, within bounded memory.
func TestClientNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := startPipes(t, testConfig(t))
		w := dialPipe(t, e, loopback, false)
		w.expect(`\* OK`)
		w.login()
		message := "Subject: big\r\n\r\n" + strings.Repeat("x", 1<<20)
		w.send("a APPEND INBOX {%d+}\r\n%s\r\n", len(message), message)
		w.expect(`a OK`)
		w.send("b SELECT INBOX\r\n")
		w.until("b")
		sent, err := 0, error(nil)
		for i := 0; err == nil; i++ {
			var n int
			n, err = fmt.Fprintf(w.conn, "t%d FETCH 1 BODY[]\r\n", i)
			sent += n
		}
		if sent > 1<<20 {
			t.Errorf("%d bytes of commands were read although the client reads no answer", sent)
		}
		other := dialPipe(t, e, loopback, false)
		other.expect(`\* OK`)
		other.login()
	})
}

func TestManyPipelinedCommands(t *testing.T) {
	const n = 10_000
	w := dialTLS(t, start(t, testConfig(t)))
	w.login()
	go func() {
		var b strings.Builder
		for i := range n {
			if i%100 == 0 {
				fmt.Fprintf(&b, "t%d GETMETADATA \"\" /shared/comment\r\n", i)
			} else {
				fmt.Fprintf(&b, "t%d NOOP\r\n", i)
			}
		}
		io.WriteString(w.conn, b.String())
	}()
	var metadata, last int
	for answered := 0; answered < n; {
		line := w.line()
		tag, rest, _ := strings.Cut(line, " ")
		if line == `* METADATA "" (/shared/comment "a test")` {
			metadata++
			continue
		}
		i, err := strconv.Atoi(strings.TrimPrefix(tag, "t"))
		if err != nil || !strings.HasPrefix(rest, "OK") {
			t.Fatalf("got %q", line)
		}
		answered++
		if i%100 != 0 { // GETMETADATA is answered here and may overtake others
			if i < last {
				t.Fatalf("answer %d came after %d", i, last)
			}
			last = i
		}
	}
	if metadata != n/100 {
		t.Errorf("%d METADATA responses, want %d", metadata, n/100)
	}
}

// TestHostileInput checks that each input causes an error or the end of its own connection, and costs little memory.
func TestHostileInput(t *testing.T) {
	e := start(t, testConfig(t))
	megabyte := strings.Repeat("A", 1<<20)
	for _, tt := range []struct {
		name  string
		login bool
		input string
		want  string // pattern of the last line
	}{
		{"1 MB before the first space", false, megabyte + "\r\n", `\* BYE|\S+ BAD|\* BAD`},
		{"1 MB as the command's name", false, "a " + megabyte + "\r\n", `\* BYE|\S+ BAD`},
		{"1 MB as user name", false, "a LOGIN " + megabyte + " x\r\n", `\* BYE Command is too long`},
		{"1 MB after login", true, "a LIST \"\" " + megabyte + "\r\n", `\* BYE Command is too long`},
		{"1 MB of GETMETADATA", true, "a GETMETADATA \"\" (" + strings.Repeat("/shared/comment ", 1<<16) + "/shared/admin)\r\n", `\* BYE|a NO|a BAD`},
		{"4 GB user name", false, "a LOGIN {4294967296}\r\n", `\* BYE|a NO|a BAD`},
		{"4 GB user name, non-synchronising", false, "a LOGIN {4294967296+}\r\n" + megabyte, `\* BYE|a NO|a BAD`},
		{"4 GB message", true, "a APPEND INBOX {4294967296}\r\n", `a NO|a BAD`},
		{"4 GB of an entry name", true, "a GETMETADATA \"\" {4294967296}\r\n", `a NO|a BAD`},
		{"literal beyond 64 bits", true, "a APPEND INBOX {99999999999999999999}\r\n", `\* BYE|a NO|a BAD`},
		{"HTTP", false, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", `\* BYE|\S+ BAD`},
		{"deep lists", true, "a FETCH 1 " + strings.Repeat("(", 40000) + "\r\n", `\* BYE|a NO|a BAD`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			w := dialTLS(t, e)
			if tt.login {
				w.login()
			}
			go io.WriteString(w.conn, tt.input) // fails when the server closes early
			last := w.expect(tt.want)
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
				t.Errorf("heap grew by %d bytes", grown)
			}
			t.Log(last)
			dialTLS(t, e).login() // others are served
		})
	}
}

// TestRefusedLiteral checks that the content of a literal that is refused, or that belongs to a refused command, is never executed.
func TestRefusedLiteral(t *testing.T) {
	e := start(t, testConfig(t))
	const payload = "x CREATE smuggled\r\n"
	for _, command := range []string{
		"a XUNKNOWN {%d+}\r\n%s\r\n",
		"a APPEND INBOX BROKEN SYNTAX {%d+}\r\n%s\r\n",
		"a GETMETADATA nowhere {%d+}\r\n%s\r\n",
		"a NOOP {%d+}\r\n%s\r\n",
	} {
		for _, repeat := range []int{1, 1000} { // LITERAL- has a bound of 4096 bytes
			w := dialTLS(t, e)
			w.login()
			content := strings.Repeat(payload, repeat)
			w.send(command, len(content), content)
			w.expect(`a (BAD|NO)`)
			w.send("b LIST \"\" *\r\n")
			for _, line := range w.until("b") {
				if strings.Contains(line, "smuggled") || strings.HasPrefix(line, "x ") {
					t.Errorf("%q: the literal's content was executed: %q", command, line)
				}
			}
		}
	}
	w := dialTLS(t, e)
	w.login()
	content := payload + strings.Repeat("0", 16<<20)
	w.send("a APPEND INBOX {%d+}\r\n%s\r\nb LIST \"\" *\r\n", len(content), content)
	w.expect(`a NO \[TOOBIG\]`)
	if lines := w.until("b"); len(lines) != 2 {
		t.Errorf("mailboxes after a refused message: %q", lines)
	}
}

func TestWrongProtocolOnPort(t *testing.T) {
	e := start(t, testConfig(t))
	w := newWire(t, dialTCP(t, e, 0))
	w.send("a CAPABILITY\r\n")
	w.expect(`\* BYE This port requires TLS`)
	w.expectEnd()

	w = dialPlain(t, e)
	w.conn.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3})
	w.expect(`\* BYE On this port, TLS starts with the command STARTTLS`)
	w.expectEnd()

	w = newWire(t, dialTCP(t, e, 0))
	w.conn.Write([]byte("\x00\xff\x00\xff garbage"))
	if _, err := io.ReadAll(w.r); err != nil && isTimeout(err) {
		t.Error("garbage on the TLS port does not end the connection")
	}
	dialTLS(t, e).login()
}
