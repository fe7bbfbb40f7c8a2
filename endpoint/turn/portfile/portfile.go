// Package portfile keeps a file of the relayed ports in use. After a crash, or a stop that interrupted calls, the next process
// reads from it to which ports previous peers may still send, and for how long no process was running.
//
// The file has a fixed size and is overwritten in place, so that it needs no further space later. A goroutine writes it, so that
// the relay never waits for a disk. A change survives the end of the process after WriteDelay, and a power failure after SyncPeriod.
package portfile

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mailturn/mailturn/turnsrv/stun"
)

const (
	// StampPeriod is the time between two signs of life while ports are in use.
	StampPeriod = time.Second
	// WriteDelay is how long a change waits for others to be written together with it. Waking the goroutine for each took a quarter of
	// the CPU time of an allocation.
	WriteDelay = 10 * time.Millisecond
	// SyncPeriod is the minimum time between two calls of fsync.
	SyncPeriod = 5 * time.Second
)

// Past is what earlier processes left.
type Past struct {
	// Ended is the last sign of life of the previous process, in wall clock time. It is zero if there was none.
	Ended time.Time
	// Stopped is false if that process ended without Close.
	Stopped bool
	// Cut is the number of ports that the process was using at its end.
	Cut int
	// Ports are those, and those that earlier processes were using and that were not forgotten, in ascending order.
	Ports map[stun.Family][]uint16
}

// File is the file. Its methods are safe for concurrent use. A nil File keeps nothing.
type File struct {
	file    disk
	logger  *slog.Logger
	key     [keyLen]byte
	wake    chan struct{} // receives a value when a block is dirty
	closing chan struct{}
	writing sync.WaitGroup

	mu     sync.Mutex      // guards what follows
	marks  []byte          // what the file should contain
	used   int             // ports in use by this process
	dirty  [numBlocks]bool // blocks with marks that the file does not contain yet
	frozen bool
}

// disk is an open file.
type disk interface {
	io.WriterAt
	Sync() error
	Close() error
}

// Read reads the file at path, which another process may be writing to.
func Read(path string) (Past, error) {
	c, err := read(path)
	return c.past(), err
}

// Open reads the file at path, if there is one, and replaces it. It ignores a file that is damaged or of another version, and
// returns the reason in err. If the file cannot be written, f is nil and err is the reason. Otherwise the caller must close f.
func Open(path string, now time.Time, logger *slog.Logger) (f *File, past Past, err error) {
	c, err := read(path)
	past = c.past()
	if c.key == ([keyLen]byte{}) {
		_, _ = rand.Read(c.key[:]) // never fails
	}
	c.stamp, c.stopped = now.UnixNano(), false
	failure := os.MkdirAll(filepath.Dir(path), 0o700)
	var file *os.File
	if failure == nil {
		file, failure = create(path, c)
	}
	if failure != nil {
		return nil, past, errors.Join(err, failure)
	}
	f = &File{
		file: file, logger: logger, key: c.key, marks: c.marks, wake: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	f.writing.Go(f.run)
	return f, past, err
}

// NonceKey returns 32 secret bytes that are the same for every process that opens the file, so that the nonces of clients remain
// valid. It returns nil for a nil File.
func (f *File) NonceKey() []byte {
	if f == nil {
		return nil
	}
	return f.key[:]
}

// Use records whether a port is in use. It does not block.
func (f *File) Use(family stun.Family, port uint16, used bool) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if at := markOf(family, port); used {
		f.used++
		f.set(at, f.marks[at]|markUsed)
	} else {
		f.used--
		f.set(at, f.marks[at]&^markUsed)
	}
}

// Forget removes the ports of earlier processes.
func (f *File) Forget() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for at, mark := range f.marks {
		f.set(at, mark&^markLeft)
	}
}

// Freeze makes the file keep the ports that are in use now. They are about to be closed without their peers knowing.
func (f *File) Freeze() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = true
}

// Close records that the process was stopped, and closes the file. Use must not be called after that.
func (f *File) Close() error {
	if f == nil {
		return nil
	}
	close(f.closing)
	f.writing.Wait()
	err := f.stamp(time.Now(), true)
	return errors.Join(err, f.file.Sync(), f.file.Close())
}

// set changes a mark. The caller holds the lock.
func (f *File) set(at int, mark byte) {
	if f.frozen || f.marks[at] == mark {
		return
	}
	f.marks[at] = mark
	f.dirty[at/blockLen] = true
	select {
	case f.wake <- struct{}{}:
	default:
	}
}
