//go:build unix

package certs

import (
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestReloadTriesAgain changes a certificate while the process has no file descriptor left to read it.
func TestReloadTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged logBuffer
		pair, next := selfSigned(t, time.Now(), "old.example.org"), selfSigned(t, time.Now(), "new.example.org")
		store, err := Load([]Pair{pair}, slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		follow(t, store)
		for from, to := range map[string]string{next.Cert: pair.Cert, next.Key: pair.Key} {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(when, want string) {
			t.Helper()
			leaf, err := presented(t, store.Config(), "")
			if err != nil {
				t.Fatal(err)
			}
			if leaf.DNSNames[0] != want {
				t.Errorf("%s: presented %s, want %s", when, leaf.DNSNames[0], want)
			}
		}

		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		none := limit
		none.Cur = 0
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(lookInterval)
			synctest.Wait()
			expect("without a descriptor", "old.example.org")
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(logged.String(), "not reloaded"); got != 1 {
			t.Errorf("logged %d times, want once:\n%s", got, &logged)
		}
		time.Sleep(lookInterval)
		synctest.Wait()
		expect("with descriptors", "new.example.org")
	})
}
