package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// monotonic returns the time of CLOCK_MONOTONIC, which systemd uses.
func monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // which every Linux has
	return time.Duration(now.Nano())
}

// isJournal reports whether file is the stream to systemd's journal that JOURNAL_STREAM names (systemd.exec(5)).
func isJournal(file *os.File) bool {
	var stat unix.Stat_t
	err := unix.Fstat(int(file.Fd()), &stat)
	return err == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}
