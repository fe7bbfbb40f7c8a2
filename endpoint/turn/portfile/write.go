package portfile

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"
)

// run writes changes, and a stamp while ports are in use. It does nothing while there are no calls.
func (f *File) run() {
	failing := false
	unsynced := false          // something was written that may not be on the disk
	synced := make(chan error) // receives the result of a Sync
	lastSync := time.Now()     // start of the last Sync; zero while one is running
	waiting := true            // for next
	next := time.NewTimer(StampPeriod)
	defer next.Stop()
	for {
		select {
		case <-f.wake:
			select {
			case <-time.After(WriteDelay):
			case <-f.closing:
				continue
			}
		case <-next.C:
			waiting = false
		case err := <-synced:
			if err != nil {
				f.check(&failing, err)
			}
			lastSync = time.Now()
			continue
		case <-f.closing:
			if lastSync.IsZero() {
				<-synced // Close does it again
			}
			f.check(&failing, f.write())
			return
		}
		now := time.Now()
		err := f.write()
		if err == nil {
			err = f.stamp(now, false)
		}
		f.check(&failing, err)
		unsynced = true
		if !lastSync.IsZero() && now.Sub(lastSync) >= SyncPeriod {
			unsynced, lastSync = false, time.Time{}
			go func() { synced <- f.file.Sync() }() // which may take long
		}
		if !waiting && (unsynced || f.inUse()) {
			next.Reset(StampPeriod)
			waiting = true
		}
	}
}

// write writes the blocks that have changed, adjacent ones together. On an error, the rest is written later.
func (f *File) write() error {
	for next := 0; next < numBlocks; {
		var first int
		var marks []byte
		if first, next, marks = f.take(next); len(marks) == 0 {
			return nil
		}
		if _, err := f.file.WriteAt(marks, int64(marksAt+first*blockLen)); err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			for block := first; block < next; block++ {
				f.dirty[block] = true
			}
			return err
		}
	}
	return nil
}

// take returns the next blocks to write, from first to before end, and a copy of their marks.
func (f *File) take(from int) (first, end int, marks []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for first = from; first < numBlocks && !f.dirty[first]; first++ {
	}
	for end = first; end < numBlocks && f.dirty[end]; end++ {
		f.dirty[end] = false
	}
	return first, end, bytes.Clone(f.marks[first*blockLen : end*blockLen])
}

// stamp writes a sign of life, and whether it is the last one.
func (f *File) stamp(now time.Time, stopped bool) error {
	b := make([]byte, keyAt-stoppedAt)
	if stopped {
		b[0] = 1
	}
	binary.BigEndian.PutUint64(b[stampAt-stoppedAt:], uint64(now.UnixNano()))
	_, err := f.file.WriteAt(b, stoppedAt)
	return err
}

func (f *File) inUse() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used > 0 || slices.Contains(f.dirty[:], true)
}

// check logs when writing begins to fail, and when it works again.
func (f *File) check(failing *bool, err error) {
	switch {
	case err != nil && !*failing:
		f.logger.Warn("relayed ports are not recorded: after a crash, they may be used again too soon", "err", err)
	case err == nil && *failing:
		f.logger.Info("relayed ports are recorded again")
	}
	*failing = err != nil
}
