package portfile

import (
	"encoding/binary"
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

// write writes the marks that have changed. On an error, the rest is written later.
func (f *File) write() error {
	f.mu.Lock()
	values := make(map[int]byte, len(f.dirty))
	for at := range f.dirty {
		values[at] = f.marks[at]
	}
	clear(f.dirty)
	f.mu.Unlock()
	for at, value := range values {
		if _, err := f.file.WriteAt([]byte{value}, int64(marksAt+at)); err != nil {
			f.mu.Lock()
			for at := range values {
				f.dirty[at] = struct{}{}
			}
			f.mu.Unlock()
			return err
		}
		delete(values, at)
	}
	return nil
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
	return f.used > 0 || len(f.dirty) > 0
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
