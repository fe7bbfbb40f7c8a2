package portfile

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

var silent = slog.New(slog.DiscardHandler)

func open(t *testing.T, path string, now time.Time) (*File, Past) {
	t.Helper()
	f, past, err := Open(path, now, silent)
	if err != nil {
		t.Fatal(err)
	}
	return f, past
}

// crash ends f as the end of its process would: without another write.
func (f *File) crash() {
	f.mu.Lock()
	f.frozen, f.dirty = true, [numBlocks]bool{}
	f.mu.Unlock()
	close(f.closing)
	f.writing.Wait()
	_ = f.file.Close()
}

// TestCrash checks what the next processes learn after a crash, and when they forget it.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state", "ports")
		f, past := open(t, path, time.Now())
		if len(past.Ports) != 0 || !past.Ended.IsZero() {
			t.Errorf("the first process has a past: %+v", past)
		}
		key := bytes.Clone(f.NonceKey())
		f.Use(stun.IPv4, 50000, true)
		f.Use(stun.IPv4, 49152, true)
		f.Use(stun.IPv6, 65535, true)
		f.Use(stun.IPv4, 50001, true)
		f.Use(stun.IPv4, 50001, false)
		time.Sleep(10*time.Second + StampPeriod/2) // a call lasts
		synctest.Wait()
		alive := time.Now().Add(-StampPeriod / 2)
		f.crash()

		time.Sleep(time.Minute)
		f, past = open(t, path, time.Now())
		left := map[stun.Family][]uint16{stun.IPv4: {49152, 50000}, stun.IPv6: {65535}}
		if diff := cmp.Diff(Past{Ended: alive, Cut: 3, Ports: left}, past); diff != "" {
			t.Errorf("after a crash: -want +got\n%s", diff)
		}
		if !bytes.Equal(key, f.NonceKey()) {
			t.Error("the key of the nonces has changed")
		}

		// A crash without calls, and one with a call on a port that a call of the first process had.
		f.crash()
		f, past = open(t, path, time.Now())
		if diff := cmp.Diff(left, past.Ports); diff != "" || past.Cut != 0 {
			t.Errorf("after a second crash: %d calls cut, -want +got\n%s", past.Cut, diff)
		}
		f.Use(stun.IPv4, 50000, true)
		time.Sleep(WriteDelay)
		synctest.Wait()
		f.crash()
		f, past = open(t, path, time.Now())
		if diff := cmp.Diff(left, past.Ports); diff != "" || past.Cut != 1 {
			t.Errorf("after a third crash: %d calls cut, -want +got\n%s", past.Cut, diff)
		}

		f.Use(stun.IPv4, 50002, true)
		f.Forget()
		time.Sleep(WriteDelay)
		synctest.Wait()
		f.crash()
		if f, past = open(t, path, time.Now()); len(past.Ports[stun.IPv4]) != 1 || past.Ports[stun.IPv4][0] != 50002 {
			t.Errorf("after Forget: %+v", past)
		}
		f.crash()
	})
}

// TestStop checks that a stop leaves the ports of the calls that it cuts, and none of those that have ended before.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "ports")
		f, _ := open(t, path, time.Now())
		f.Use(stun.IPv4, 50000, true)
		f.Use(stun.IPv4, 50001, true)
		f.Use(stun.IPv4, 50000, false)
		f.Freeze()
		f.Use(stun.IPv4, 50001, false)
		time.Sleep(time.Hour)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		f, past := open(t, path, time.Now())
		want := Past{Ended: time.Now(), Stopped: true, Cut: 1, Ports: map[stun.Family][]uint16{stun.IPv4: {50001}}}
		if diff := cmp.Diff(want, past); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		f.crash()
	})
}

// TestRefusedFiles checks that a file that this version did not write is refused and replaced.
func TestRefusedFiles(t *testing.T) {
	good := contents{stamp: 1, marks: make([]byte, numMarks)}
	good.marks[50000] = markUsed
	change := func(at int, value byte) []byte {
		b := good.bytes()
		b[at] = value
		return b
	}
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "damaged"},
		{"zeros, as after a loss of power", make([]byte, fileSize), "damaged"},
		{"cut", good.bytes()[:fileSize-1], "damaged"},
		{"cut in the header", good.bytes()[:len(magic)+2], "damaged"},
		{"too long", append(good.bytes(), 0), "larger than"},
		{"too new", change(len(magic)+3, version+1), "version 2, want 1"},
		{"unknown flag", change(stoppedAt, 2), "damaged"},
		{"unknown mark", change(marksAt+50000, markEnd), "damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ports")
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			f, past, err := Open(path, time.Now(), silent)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want one that names the file and says %q", err, tt.want)
			}
			if len(past.Ports) != 0 {
				t.Errorf("it has left ports: %v", past.Ports)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			f, past = open(t, path, time.Now())
			if !past.Stopped {
				t.Errorf("it was not replaced: %+v", past)
			}
			_ = f.Close()
		})
	}
	path := filepath.Join(t.TempDir(), "ports")
	if err := os.WriteFile(path, good.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, past := open(t, path, time.Now()); len(past.Ports[stun.IPv4]) != 1 {
		t.Errorf("the file before these changes leaves %v", past.Ports)
	} else {
		_ = f.Close()
	}
}

// TestWithoutFile checks that a relay works where no file can be written.
func TestWithoutFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, err := Open(filepath.Join(path, "ports"), time.Now(), silent)
	if f != nil || err == nil {
		t.Fatalf("Open in a directory that is a file: %v, %v", f, err)
	}
	f.Use(stun.IPv4, 50000, true)
	f.Forget()
	f.Freeze()
	if key, err := f.NonceKey(), f.Close(); key != nil || err != nil {
		t.Errorf("a file that could not be made: key %x, %v", key, err)
	}
}

// flakyDisk has no space while full is true.
type flakyDisk struct {
	disk
	full atomic.Bool
}

func (d *flakyDisk) WriteAt(b []byte, at int64) (int, error) {
	if d.full.Load() {
		return 0, syscall.ENOSPC
	}
	return d.disk.WriteAt(b, at)
}

// log counts lines. It implements io.Writer.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *log) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// TestFullDisk checks that a disk that fails is logged once, and that nothing is lost when it works again.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines log
		path := filepath.Join(t.TempDir(), "ports")
		f, _, err := Open(path, time.Now(), slog.New(slog.NewTextHandler(&lines, nil)))
		if err != nil {
			t.Fatal(err)
		}
		flaky := &flakyDisk{disk: f.file}
		flaky.full.Store(true)
		f.file = flaky
		f.Use(stun.IPv4, 50000, true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := lines.count("not recorded"); n != 1 {
			t.Errorf("the failure was logged %d times", n)
		}
		flaky.full.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := lines.count("recorded again"); n != 1 {
			t.Errorf("its end was logged %d times", n)
		}
		f.crash()
		f, past := open(t, path, time.Now())
		if past.Cut != 1 {
			t.Errorf("the port is lost: %+v", past)
		}
		f.crash()
	})
}

// countingDisk counts writes.
type countingDisk struct {
	disk
	writes atomic.Int32
}

func (d *countingDisk) WriteAt(b []byte, at int64) (int, error) {
	d.writes.Add(1)
	return d.disk.WriteAt(b, at)
}

// TestManyPorts checks that changes of many ports take a few writes, and that all of them reach the file, together with what was there.
func TestManyPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "ports")
		f, _ := open(t, path, time.Now())
		counting := &countingDisk{disk: f.file}
		f.file = counting
		want := map[stun.Family][]uint16{}
		for step := range 2 { // odd ports, then even ones beside them
			for port := 49153 - step; port < 1<<16; port += 100 {
				f.Use(stun.IPv4, uint16(port), true)
				f.Use(stun.IPv6, uint16(port), true)
				want[stun.IPv4] = append(want[stun.IPv4], uint16(port))
				want[stun.IPv6] = append(want[stun.IPv6], uint16(port))
			}
			f.Use(stun.IPv4, 1, step == 0) // far away from the others
			time.Sleep(2 * WriteDelay)
			synctest.Wait()
		}
		if n := counting.writes.Load(); n > 10 {
			t.Errorf("%d writes", n)
		}
		f.crash()
		f, past := open(t, path, time.Now())
		for _, ports := range want {
			slices.Sort(ports)
		}
		if diff := cmp.Diff(want, past.Ports); diff != "" {
			t.Errorf("ports after a crash (-want +got):\n%s", diff)
		}
		f.crash()
	})
}

// TestWriteDelay checks that changes which follow each other closely are written together.
func TestWriteDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := open(t, filepath.Join(t.TempDir(), "ports"), time.Now())
		counting := &countingDisk{disk: f.file}
		f.file = counting
		for range 100 {
			f.Use(stun.IPv4, 50000, true)
			time.Sleep(WriteDelay / 100)
			f.Use(stun.IPv4, 50000, false)
		}
		time.Sleep(WriteDelay)
		synctest.Wait()
		if n := counting.writes.Load(); n > 10 { // the mark and the stamp, twice or so
			t.Errorf("%d writes", n)
		}
		f.crash()
	})
}
