package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailturn/mailturn/framework/config"
)

// selfSigned creates a pair for names in a new directory, valid from an hour before now.
func selfSigned(t *testing.T, now time.Time, names ...string) Pair {
	t.Helper()
	pair, created, err := SelfSigned(t.TempDir(), names, now)
	if err != nil || !created {
		t.Fatalf("SelfSigned: created %v, error %v", created, err)
	}
	return pair
}

// presented returns the certificate that is presented to a client that asks for serverName and offers the protocols alpn.
func presented(t *testing.T, config *tls.Config, serverName string, alpn ...string) (*x509.Certificate, error) {
	t.Helper()
	serverConn, clientConn := net.Pipe()
	defer serverConn.Close()
	defer clientConn.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(serverConn, config).HandshakeContext(t.Context()) }()
	client := tls.Client(clientConn, &tls.Config{ServerName: serverName, InsecureSkipVerify: true, NextProtos: alpn})
	err := client.HandshakeContext(t.Context())
	clientConn.Close()
	<-done
	if err != nil {
		return nil, err
	}
	return client.ConnectionState().PeerCertificates[0], nil
}

func TestSelfSigned(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "state")
	pair, created, err := SelfSigned(dir, []string{"mail.example.org", "192.0.2.1"}, start)
	if err != nil || !created {
		t.Fatalf("first call: created %v, error %v", created, err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, pair.Key: 0o600, pair.Cert: 0o644} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("mode of %s is %v, want %v", filepath.Base(path), info.Mode(), want)
		}
	}
	certificate, err := ReadPair(pair)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mail.example.org", "192.0.2.1", "localhost", "127.0.0.1", "::1"} {
		if err := certificate.Leaf.VerifyHostname(name); err != nil {
			t.Errorf("certificate is not for %s: %v", name, err)
		}
	}
	if key, ok := certificate.PrivateKey.(*ecdsa.PrivateKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("key is %T, want ECDSA P-256", certificate.PrivateKey)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Leaf)
	if _, err := certificate.Leaf.Verify(x509.VerifyOptions{DNSName: "mail.example.org", Roots: roots, CurrentTime: start}); err != nil {
		t.Errorf("a client that trusts the certificate refuses it: %v", err)
	}

	tests := []struct {
		name    string
		names   []string
		after   time.Duration
		created bool
	}{
		{"same names, half a year later", []string{"mail.example.org", "192.0.2.1"}, 180 * 24 * time.Hour, false},
		{"29 days before the end", []string{"mail.example.org", "192.0.2.1"}, (365 - 29) * 24 * time.Hour, true},
		{"another name", []string{"imap.example.org"}, (365 - 29) * 24 * time.Hour, true},
		{"the same again", []string{"imap.example.org"}, (365 - 29) * 24 * time.Hour, false},
		{"clock set back", []string{"imap.example.org"}, 0, true},
	}
	for _, tt := range tests {
		_, created, err := SelfSigned(dir, tt.names, start.Add(tt.after))
		if err != nil || created != tt.created {
			t.Errorf("%s: created %v, error %v, want %v", tt.name, created, err, tt.created)
		}
	}

	if err := os.WriteFile(pair.Cert, []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, created, err := SelfSigned(dir, []string{"imap.example.org"}, start); err != nil || !created {
		t.Errorf("broken files: created %v, error %v, want a new pair", created, err)
	}
	leftOver, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(leftOver) != 0 {
		t.Errorf("temporary files left: %q, %v", leftOver, err)
	}
}

func TestSelfSignedCannotWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := SelfSigned(filepath.Join(file, "state"), nil, time.Now())
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v does not name the directory", err)
	}
}

func TestReadPairErrors(t *testing.T) {
	now := time.Now()
	a, b := selfSigned(t, now, "a.example.org"), selfSigned(t, now, "b.example.org")
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("not PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing.pem")
	tests := []struct {
		name string
		pair Pair
		file string // that the error names
		text string
	}{
		{"missing certificate", Pair{Cert: missing, Key: a.Key}, missing, "no such file"},
		{"missing key", Pair{Cert: a.Cert, Key: missing}, missing, "no such file"},
		{"certificate is no PEM", Pair{Cert: garbage, Key: a.Key}, garbage, "PEM"},
		{"key is no PEM", Pair{Cert: a.Cert, Key: garbage}, garbage, "PEM"},
		{"key of another certificate", Pair{Cert: a.Cert, Key: b.Key}, b.Key, "private key that belongs to " + a.Cert},
		{"swapped", Pair{Cert: a.Key, Key: a.Cert}, a.Key, "swap the two files"},
		{"key is a certificate", Pair{Cert: a.Cert, Key: a.Cert}, a.Cert, "certificate rather than a key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadPair(tt.pair)
			certErr, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("error is %v, want an *Error", err)
			}
			if certErr.File != tt.file || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q, want one about %s with %q", err, tt.file, tt.text)
			}
			if certErr.Hint == "" {
				t.Errorf("error %q has no hint", err)
			}
		})
	}
	if _, err := Load(nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Load without pairs succeeded")
	}
	_, err := Load([]Pair{{Cert: missing, Key: a.Key}, {Cert: b.Cert, Key: garbage}}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), garbage) {
		t.Errorf("error %v does not name both broken pairs", err)
	}
}

func TestHandshake(t *testing.T) {
	now := time.Now()
	store, err := Load([]Pair{selfSigned(t, now, "a.example.org"), selfSigned(t, now, "b.example.org")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	config := store.Config("imap")
	tests := []struct {
		serverName string
		alpn       []string
		want       string // first DNS name; "" for a refused handshake
	}{
		{"a.example.org", nil, "a.example.org"},
		{"b.example.org", nil, "b.example.org"},
		{"B.Example.ORG", []string{"imap"}, "b.example.org"},
		{"c.example.org", nil, "a.example.org"},
		{"", nil, "a.example.org"},
		{"a.example.org", []string{"http/1.1", "imap"}, "a.example.org"},
		{"a.example.org", []string{"http/1.1"}, ""},
	}
	for _, tt := range tests {
		leaf, err := presented(t, config, tt.serverName, tt.alpn...)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("handshake for %q with ALPN %q succeeded", tt.serverName, tt.alpn)
		case tt.want != "" && err != nil:
			t.Errorf("handshake for %q with ALPN %q: %v", tt.serverName, tt.alpn, err)
		case tt.want != "" && leaf.DNSNames[0] != tt.want:
			t.Errorf("handshake for %q with ALPN %q got %s, want %s", tt.serverName, tt.alpn, leaf.DNSNames[0], tt.want)
		}
	}
}

func TestHandshakeRefusesTLS11(t *testing.T) {
	store, err := Load([]Pair{selfSigned(t, time.Now())}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serverConn, clientConn := net.Pipe()
	defer serverConn.Close()
	defer clientConn.Close()
	go tls.Client(clientConn, &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	}).HandshakeContext(t.Context())
	if err := tls.Server(serverConn, store.Config()).HandshakeContext(t.Context()); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

// TestReload changes the files of a store, and checks that a good new pair is presented a few seconds later, and a broken one
// never.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged logBuffer
		pair := selfSigned(t, time.Now(), "old.example.org")
		store, err := Load([]Pair{pair}, slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		config := store.Config()
		follow(t, store)
		expect := func(when, want string) {
			t.Helper()
			synctest.Wait() // for a look that is due now
			leaf, err := presented(t, config, "")
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if leaf.DNSNames[0] != want {
				t.Errorf("%s: presented %s, want %s", when, leaf.DNSNames[0], want)
			}
		}
		replace := func(by string) {
			t.Helper()
			next := selfSigned(t, time.Now(), by)
			for from, to := range map[string]string{next.Cert: pair.Cert, next.Key: pair.Key} {
				if err := os.Rename(from, to); err != nil {
					t.Fatal(err)
				}
			}
		}

		replace("new.example.org")
		expect("right after the change", "old.example.org")
		time.Sleep(lookInterval)
		expect("at the next look", "new.example.org")

		if err := os.WriteFile(pair.Key, []byte("half a ke"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookInterval)
		expect("with a broken key", "new.example.org")
		time.Sleep(lookInterval)
		expect("with the same broken key", "new.example.org")
		if got := strings.Count(logged.String(), "not reloaded"); got != 1 {
			t.Errorf("broken pair logged %d times, want once:\n%s", got, &logged)
		}
		if _, err := store.Prepare([]Pair{pair}); err == nil || !strings.Contains(err.Error(), pair.Key) {
			t.Errorf("Prepare with a broken pair: error %v, want one that names %s", err, pair.Key)
		}

		replace("mended.example.org")
		commit, err := store.Prepare([]Pair{pair})
		if err != nil {
			t.Fatalf("Prepare: %v", err)
		}
		commit()
		expect("after Prepare", "mended.example.org")

		// A renewal that is half done, in either order: the chain of one certificate and the key of another.
		for _, keyFirst := range []bool{false, true} {
			name := map[bool]string{false: "chain.example.org", true: "key.example.org"}[keyFirst]
			before := map[bool]string{false: "mended.example.org", true: "chain.example.org"}[keyFirst]
			next := selfSigned(t, time.Now(), name)
			renames := [][2]string{{next.Cert, pair.Cert}, {next.Key, pair.Key}}
			if keyFirst {
				slices.Reverse(renames)
			}
			for i, rename := range renames {
				if err := os.Rename(rename[0], rename[1]); err != nil {
					t.Fatal(err)
				}
				if _, err := store.Prepare([]Pair{pair}); (err != nil) != (i == 0) {
					t.Errorf("Prepare with %d of 2 files of %s: %v", i+1, name, err)
				}
				time.Sleep(lookInterval)
				want := before
				if i == 1 {
					want = name
				}
				expect(rename[1]+" replaced", want)
			}
		}

		other := selfSigned(t, time.Now(), "other.example.org")
		if commit, err = store.Prepare([]Pair{other}); err != nil {
			t.Fatalf("Prepare: %v", err)
		}
		commit()
		expect("after Prepare with other files", "other.example.org")
		if ends := store.Ends(); len(ends) != 1 || time.Until(ends[other.Cert]) < selfSignedLifetime-time.Hour {
			t.Errorf("certificates end at %v, want only that of %s, in a year", ends, other.Cert)
		}
		if err := os.WriteFile(other.Key, []byte("half a ke"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookInterval)
		synctest.Wait()
		if !strings.Contains(logged.String(), other.Key) {
			t.Errorf("the other files are not followed:\n%s", &logged)
		}
	})
}

// logBuffer is a log that can be read while a store writes to it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// follow runs Follow until stop is called, or the end of the test, which runs in a bubble of synctest.
func follow(t *testing.T, store *Store) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		store.Follow(ctx)
		close(done)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// overwrite puts contents into the file at path without changing its inode or its modification time, as
// cp --preserve=timestamps does.
func overwrite(t *testing.T, path string, contents []byte) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, contents, info.Mode()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// TestReloadWithoutClients changes files without changing their modification time or size, while no client connects.
func TestReloadWithoutClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged logBuffer
		pair := selfSigned(t, time.Now(), "one.example.org")
		store, err := Load([]Pair{pair}, slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		follow(t, store)
		size := func(file string) int64 {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}
		var next Pair
		for next = selfSigned(t, time.Now(), "two.example.org"); size(next.Cert) != size(pair.Cert); { // signatures vary in length
			next = selfSigned(t, time.Now(), "two.example.org")
		}
		for from, to := range map[string]string{next.Cert: pair.Cert, next.Key: pair.Key} {
			contents, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, to, contents)
		}
		time.Sleep(lookInterval)
		synctest.Wait()
		if !strings.Contains(logged.String(), "certificate reloaded") {
			t.Errorf("not reloaded:\n%s", &logged)
		}
		leaf, err := presented(t, store.Config(), "")
		if err != nil {
			t.Fatal(err)
		}
		if leaf.DNSNames[0] != "two.example.org" {
			t.Errorf("presented %s, want two.example.org", leaf.DNSNames[0])
		}
	})
}

// TestReloadIsAllOrNothing checks that a broken pair keeps the others from being replaced, as a reload of the configuration
// promises.
func TestReloadIsAllOrNothing(t *testing.T) {
	good, broken := selfSigned(t, time.Now(), "one.example.org"), selfSigned(t, time.Now(), "two.example.org")
	store, err := Load([]Pair{good, broken}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	next := selfSigned(t, time.Now(), "new.example.org")
	for from, to := range map[string]string{next.Cert: good.Cert, next.Key: good.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(broken.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Prepare([]Pair{good, broken}); err == nil || !strings.Contains(err.Error(), broken.Key) {
		t.Errorf("got %v, want an error that names %s", err, broken.Key)
	}
	if leaf, err := presented(t, store.Config(), "one.example.org"); err != nil || leaf.DNSNames[0] != "one.example.org" {
		t.Errorf("presented %v, %v, want the old certificate", leaf, err)
	}
}

// TestDecodeWarns checks the warnings about certificates that work but should not be used.
func TestDecodeWarns(t *testing.T) {
	pair := selfSigned(t, time.Now().Add(-selfSignedLifetime+time.Hour))
	if err := os.Chmod(pair.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	block := config.TLS{Cert: config.Value[string]{V: pair.Cert, Set: true}, Key: config.Value[string]{V: pair.Key, Set: true}}
	got, diags := Decode(block)
	if got != pair || diags.HasErrors() || len(diags) != 2 ||
		diags[0].Summary != "Private key is readable by everybody" || diags[1].Summary != "Certificate must be renewed" {
		t.Errorf("got %v, %v", got, diags)
	}
}

// TestAwaited checks that a certificate of an authority is presented as soon as its file exists, and that handshakes fail before.
func TestAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged logBuffer
		files := selfSigned(t, time.Now(), "one.example.org")
		pair := Pair{Cert: filepath.Join(t.TempDir(), "one.pem"), Name: "one.example.org"}
		pair.Key = pair.Cert
		store, err := Load([]Pair{pair}, slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		follow(t, store)
		if _, err := presented(t, store.Config(), "one.example.org"); err == nil {
			t.Error("a handshake without a certificate succeeds")
		}
		if end := store.Ends()[pair.Cert]; end.Unix() != 0 {
			t.Errorf("a missing certificate expires at %v, want 1970", end)
		}
		commit, err := store.Prepare([]Pair{pair})
		if err != nil {
			t.Fatal(err)
		}
		commit()
		time.Sleep(3 * lookInterval)
		synctest.Wait()
		if logged.String() != "" {
			t.Errorf("logged while the certificate is awaited: %s", &logged)
		}
		certPEM, keyPEM, err := files.readFiles()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pair.Cert, append(certPEM, keyPEM...), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookInterval)
		synctest.Wait()
		if leaf, err := presented(t, store.Config("imap"), "one.example.org", "imap"); err != nil || leaf.DNSNames[0] != "one.example.org" {
			t.Errorf("presented %v, %v", leaf, err)
		}
	})
	if _, err := Load([]Pair{{Cert: "/nonexistent", Key: "/nonexistent"}}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Load accepts a missing file that no authority issues")
	}
}

func TestExpiryWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged logBuffer
		pair := selfSigned(t, time.Now().Add(-selfSignedLifetime+expirySoon+time.Hour))
		store, err := Load([]Pair{pair}, slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if logged.String() != "" {
			t.Errorf("warned too early: %s", &logged)
		}
		stop := follow(t, store)
		time.Sleep(25*time.Hour + time.Minute)
		synctest.Wait()
		stop() // each look reads the files, and a month has half a million of them
		if got := strings.Count(logged.String(), "expires on"); got != 1 || !strings.Contains(logged.String(), pair.Cert) {
			t.Errorf("warned %d times, want once with the file:\n%s", got, &logged)
		}
		time.Sleep(30 * 24 * time.Hour)
		commit, err := store.Prepare([]Pair{pair})
		if err != nil {
			t.Fatalf("an expired certificate is an error: %v", err)
		}
		commit()
		if !strings.Contains(logged.String(), "expired on") {
			t.Errorf("no warning about the expired certificate:\n%s", &logged)
		}
	})
}

// TestSoon checks that for certificates with a lifetime of a week or a day, the warning comes when their renewal is overdue, and
// not always.
func TestSoon(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct{ lifetime, want time.Duration }{
		{365 * day, 14 * day}, {90 * day, 14 * day}, {6 * day, day}, {day, 4 * time.Hour},
	} {
		if got := Soon(tt.lifetime); got != tt.want {
			t.Errorf("Soon(%v) = %v, want %v", tt.lifetime, got, tt.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	err := &Error{File: "a.pem", Err: errors.New("tls: bad record"), Hint: "do this"}
	if got, want := err.Error(), "certificate file a.pem: bad record (do this)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if errors.Unwrap(err) != err.Err {
		t.Error("Unwrap does not return the cause")
	}
}
