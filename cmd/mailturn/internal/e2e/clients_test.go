package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/mailturn/mailturn/cmd/mailturn/internal/e2e/dovecot"
)

// clientLimit is the maximum duration of one run of another project's client.
const clientLimit = 90 * time.Second

// runClient runs another project's client, which must succeed.
func runClient(t *testing.T, program string, args ...string) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientLimit)
	defer cancel()
	var out, log bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%.2000s\n%.2000s", program, strings.Join(args, " "), err, out.String(), log.String())
	}
	return out.String(), log.String()
}

// content identifies a message by its bytes, apart from what every mail store changes: line ends, and the header field
// with which mbsync finds again what it has sent.
func content(message []byte) [sha256.Size]byte {
	message = append([]byte("\n"), bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))...)
	if i := bytes.Index(message, []byte("\nX-TUID: ")); i >= 0 {
		message = slices.Delete(message, i, i+1+bytes.IndexByte(message[i+1:], '\n'))
	}
	return sha256.Sum256(message)
}

// contents counts the messages of a Maildir by their content.
func contents(t *testing.T, maildir string) map[[sha256.Size]byte]int {
	t.Helper()
	counts := make(map[[sha256.Size]byte]int)
	for _, folder := range []string{"new", "cur"} {
		files, err := os.ReadDir(filepath.Join(maildir, folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			message, err := os.ReadFile(filepath.Join(maildir, folder, file.Name()))
			if err != nil {
				t.Fatal(err)
			}
			counts[content(message)]++
		}
	}
	return counts
}

// appendAll appends messages to INBOX through a connection directly to the server.
func appendAll(t *testing.T, d *dovecot.Server, user string, messages [][]byte) {
	t.Helper()
	conn, err := dialPlain(d.Addr)()
	if err != nil {
		t.Fatal(err)
	}
	w := &scriptWriter{pipeline: 20}
	w.alone("LOGIN " + user + " " + dovecot.Password)
	for _, m := range messages {
		w.command(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(m), m))
	}
	w.alone("LOGOUT")
	if _, _, err := (&session{conn: conn, limit: stepLimit}).run(w.script); err != nil {
		t.Fatal(err)
	}
}

// TestMbsync synchronises two mailboxes of 250 different messages each, including one of 20 MB, and then the changes on both sides.
func TestMbsync(t *testing.T) {
	t.Parallel()
	mbsync := peer(t, "mbsync", "isync")
	d := startDovecot(t, dovecot.Options{})
	p := startProxy(t, d.Addr)
	user, dir := newUser(), t.TempDir()
	r := rand.New(rand.NewPCG(1, 4))
	messages := make([][]byte, 500)
	want := make(map[[sha256.Size]byte]int)
	for i := range messages {
		size := r.IntN(8 << 10)
		if i == 100 || i == 400 {
			size = bigSize
		}
		messages[i] = wellFormed(message(r, size))
		want[content(messages[i])]++
	}
	far, near := filepath.Join(d.Home(user), "Maildir"), filepath.Join(dir, "mail", "INBOX")
	appendAll(t, d, user, messages[:250])
	for _, folder := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(near, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, message []byte) {
		message = bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))
		if err := os.WriteFile(filepath.Join(near, "cur", name), message, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range messages[250:] {
		put(fmt.Sprintf("%d.test:2,S", i), m)
	}
	configuration := filepath.Join(dir, "mbsyncrc")
	text := fmt.Sprintf(`
IMAPAccount far
Host localhost
Port %d
User %s
Pass %s
SSLType IMAPS
SSLVersions TLSv1.3
SystemCertificates no
CertificateFile %s
AuthMechs LOGIN

IMAPStore far
Account far

MaildirStore near
Path %s/
Inbox %s

Channel both
Far :far:
Near :near:
Patterns INBOX
Sync All
Expunge Both
SyncState %s/
`, p.imaps, user, dovecot.Password, p.caFile, filepath.Join(dir, "mail"), near, dir)
	if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for name, maildir := range map[string]string{"Dovecot": far, "mbsync": near} {
			got := contents(t, maildir)
			missing, extra := 0, 0
			for hash, n := range want {
				missing += max(0, n-got[hash])
			}
			for hash, n := range got {
				extra += max(0, n-want[hash])
			}
			if missing > 0 || extra > 0 {
				t.Errorf("%s: %s lacks %d messages and has %d others", when, name, missing, extra)
			}
		}
	}
	runClient(t, mbsync, "-c", configuration, "-a")
	check("after the first synchronisation")

	// One message goes and one comes on either side.
	added := wellFormed(message(r, 3000))
	put("added.test:2,", added)
	want[content(added)]++
	addedFar := wellFormed(message(r, 3000))
	appendAll(t, d, user, [][]byte{addedFar})
	want[content(addedFar)]++
	if err := os.Remove(filepath.Join(near, "cur", onlyFile(t, filepath.Join(near, "cur"), "7.test"))); err != nil {
		t.Fatal(err)
	}
	delete(want, content(messages[250+7]))
	direct(d).mustRun(t, user, `SELECT INBOX`, `STORE 1 +FLAGS.SILENT (\Deleted)`, `EXPUNGE`)
	delete(want, content(messages[0]))
	runClient(t, mbsync, "-c", configuration, "-a")
	check("after the second synchronisation")
}

// onlyFile returns the one file whose name begins with prefix: mbsync adds to names.
func onlyFile(t *testing.T, dir, prefix string) string {
	t.Helper()
	matches, err := filepath.Glob(filepath.Join(dir, prefix+"[,:]*"))
	if err != nil || len(matches) != 1 {
		t.Fatalf("%d files in %s begin with %s (%v)", len(matches), dir, prefix, err)
	}
	return filepath.Base(matches[0])
}

// mustRun runs commands of a user in order, and returns the responses.
func (rec recorder) mustRun(t *testing.T, user string, commands ...string) []string {
	t.Helper()
	conn, err := rec.dial()
	if err != nil {
		t.Fatal(err)
	}
	w := &scriptWriter{pipeline: 1}
	w.command("LOGIN " + user + " " + dovecot.Password)
	for _, command := range commands {
		w.command(command)
	}
	w.command("LOGOUT")
	transcript, _, err := (&session{conn: conn, limit: stepLimit}).run(w.script)
	if err != nil {
		t.Fatalf("%v\ntranscript: %.5000q", err, transcript)
	}
	return transcript
}

// wellFormed is a message with all its line ends CR LF, which no mail store changes.
func wellFormed(message string) []byte {
	return []byte(strings.ReplaceAll(strings.ReplaceAll(message, "\r", ""), "\n", "\r\n"))
}

// writeMessage writes a message of 20 MB of any bytes but NUL to a file.
func writeMessage(t *testing.T) (path string, content []byte) {
	t.Helper()
	content = wellFormed(message(rand.New(rand.NewPCG(1, 5)), bigSize))
	path = filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func TestCurl(t *testing.T) {
	curl := peer(t, "curl", "curl")
	d := startDovecot(t, dovecot.Options{})
	p := startProxy(t, d.Addr)
	path, message := writeMessage(t)
	for _, tt := range []struct{ name, url string }{
		{"implicit TLS", fmt.Sprintf("imaps://localhost:%d", p.imaps)},
		{"STARTTLS", fmt.Sprintf("imap://localhost:%d", p.imap)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			user := newUser()
			run := func(args ...string) (stdout, stderr string) {
				t.Helper()
				return runClient(t, curl, append([]string{"--silent", "--show-error", "--ssl-reqd", "--cacert", p.caFile, "--user", user + ":" + dovecot.Password}, args...)...)
			}
			run("--upload-file", path, tt.url+"/INBOX")
			if got, _ := run(tt.url + "/INBOX;MAILINDEX=1"); sha256.Sum256([]byte(got)) != sha256.Sum256(message) {
				t.Errorf("got back %d bytes, other than the %d that were sent", len(got), len(message))
			}
			if got, _ := run(tt.url+"/INBOX", "--request", "SEARCH ALL"); got != "* SEARCH 1\r\n" {
				t.Errorf("got %q to SEARCH", got)
			}
			// Of responses that do not begin with the command's name, curl tells only where it says everything.
			_, log := run(tt.url, "--request", `GETMETADATA "" /shared/comment`, "--verbose")
			if want := fmt.Sprintf("< * METADATA \"\" (/shared/comment %q)", comment); !strings.Contains(log, want) {
				t.Errorf("no %q in\n%s", want, log)
			}
		})
	}
}

func TestImaplib(t *testing.T) {
	python := peer(t, "python3", "python3")
	d := startDovecot(t, dovecot.Options{})
	p := startProxy(t, d.Addr)
	path, message := writeMessage(t)
	for security, port := range map[string]int{"tls": p.imaps, "starttls": p.imap} {
		t.Run(security, func(t *testing.T) {
			t.Parallel()
			output, _ := runClient(t, python, filepath.Join("testdata", "imaplib_session.py"), fmt.Sprint(port), p.caFile, newUser(), dovecot.Password, path, security)
			var got struct {
				Before                           []string
				After                            string
				Messages                         int
				Sizes                            []int
				SHA256                           string
				Search, Expunged                 string
				Quoted, Single, Maxsize, Literal []string
				Set                              string
			}
			if err := json.Unmarshal([]byte(output), &got); err != nil {
				t.Fatalf("%v in %q", err, output)
			}
			if slices.Contains(got.Before, "METADATA") || slices.Contains(got.Before, "STARTTLS") {
				t.Errorf("got the capabilities %q on TLS before login", got.Before)
			}
			if !strings.HasSuffix(" "+got.After+" ", " METADATA ") && !strings.Contains(got.After, " METADATA ") {
				t.Errorf("got the capabilities %q after login", got.After)
			}
			if want := fmt.Sprintf("%x", sha256.Sum256(message)); got.SHA256 != want || got.Messages != 2 || !slices.Equal(got.Sizes, []int{len(message), 29}) {
				t.Errorf("got %d messages of %d bytes, the first with hash %s", got.Messages, got.Sizes, got.SHA256)
			}
			if got.Search != "2" || got.Expunged != "2" {
				t.Errorf("searched for %q and expunged %q, want 2", got.Search, got.Expunged)
			}
			quoted := map[string]string{}
			parseMetadata(t, "* METADATA "+strings.Join(got.Quoted, "")+"\r\n", quoted)
			if quoted["/shared/comment"] != comment || !ours.MatchString(quoted["/shared/vendor/deltachat/turn"]) {
				t.Errorf("got the annotations %q", got.Quoted)
			}
			for _, answer := range [][]string{got.Single, got.Literal} {
				single := map[string]string{}
				parseMetadata(t, "* METADATA "+strings.Join(answer, "")+"\r\n", single)
				if len(single) != 1 || !ours.MatchString(single["/shared/vendor/deltachat/turn"]) {
					t.Errorf("got the annotation %q", answer)
				}
			}
			if !slices.Equal(got.Maxsize, []string{fmt.Sprintf("LONGENTRIES %d", len(comment))}) || got.Set != "NO" {
				t.Errorf("got %q with MAXSIZE and %s to SETMETADATA", got.Maxsize, got.Set)
			}
		})
	}
}

// TestGoIMAP runs a session of go-imap's client.
func TestGoIMAP(t *testing.T) {
	d, _ := startMetadataDovecot(t, nil)
	p := startProxy(t, d.Addr)
	_, message := writeMessage(t)
	for name, dial := range map[string]func(options *imapclient.Options) (*imapclient.Client, error){
		"TLS": func(options *imapclient.Options) (*imapclient.Client, error) {
			return imapclient.DialTLS(p.tlsAddr(), options)
		},
		"STARTTLS": func(options *imapclient.Options) (*imapclient.Client, error) {
			return imapclient.DialStartTLS(p.addr(), options)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exists := make(chan uint32, 16)
			client, err := dial(&imapclient.Options{TLSConfig: p.tls, UnilateralDataHandler: &imapclient.UnilateralDataHandler{
				Mailbox: func(data *imapclient.UnilateralDataMailbox) {
					if data.NumMessages != nil {
						exists <- *data.NumMessages
					}
				},
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer time.AfterFunc(clientLimit, func() { client.Close() }).Stop()
			defer client.Close()
			user := newUser()
			must(t, client.Login(user, dovecot.Password).Wait())
			if !client.Caps().Has("METADATA") {
				t.Errorf("got the capabilities %v", client.Caps())
			}

			append := client.Append("INBOX", int64(len(message)), nil)
			_, err = append.Write(message)
			must(t, err)
			must(t, append.Close())
			_, err = append.Wait()
			must(t, err)
			_, err = client.Select("INBOX", nil).Wait()
			must(t, err)
			all := imap.SeqSetNum(1)
			fetched, err := client.Fetch(all, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
			must(t, err)
			if len(fetched) != 1 || len(fetched[0].BodySection) != 1 || sha256.Sum256(fetched[0].BodySection[0].Bytes) != sha256.Sum256(message) {
				t.Errorf("got back another message than was sent")
			}

			idle, err := client.Idle()
			must(t, err)
			must(t, deliverTo(d.Addr, user)("Subject: second\r\n\r\nbody\r\n"))
			for n := uint32(0); n != 2; {
				select {
				case n = <-exists:
				case <-time.After(stepLimit):
					t.Fatal("IDLE did not say that a message came")
				}
			}
			must(t, idle.Close())
			must(t, idle.Wait())

			data, err := client.GetMetadata("", []string{"/shared/vendor/deltachat/turn", "/shared/vendor/deltachat/irohrelay", "/shared/comment"}, nil).Wait()
			must(t, err)
			for entry, want := range map[string]string{"/shared/vendor/deltachat/irohrelay": "https://iroh.example.org", "/shared/comment": comment} {
				if got := data.Entries[entry]; got == nil || string(*got) != want {
					t.Errorf("got %v for %s, want %q", got, entry, want)
				}
			}
			if got := data.Entries["/shared/vendor/deltachat/turn"]; got == nil || !ours.Match(*got) {
				t.Errorf("got %v for the TURN entry", got)
			}
			size := uint32(5)
			data, err = client.GetMetadata("", []string{"/shared/vendor/deltachat"}, &imapclient.GetMetadataOptions{MaxSize: &size, Depth: imapclient.GetMetadataDepthInfinity}).Wait()
			must(t, err)
			if got := data.Entries["/shared/vendor/deltachat/maxsmtprecipients"]; got == nil || string(*got) != "1000" || len(data.Entries) != 1 {
				t.Errorf("got %d entries of at most 5 bytes, want maxsmtprecipients", len(data.Entries))
			}
			value := []byte("openpgp:abc")
			must(t, client.SetMetadata("INBOX", map[string]*[]byte{"/private/devicetoken": &value}).Wait())
			if err := client.SetMetadata("", map[string]*[]byte{"/shared/comment": &value}).Wait(); err == nil {
				t.Error("our entry could be set")
			}
			must(t, client.Logout().Wait())
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
