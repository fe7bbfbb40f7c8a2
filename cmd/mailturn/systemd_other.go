//go:build !linux

package main

import (
	"os"
	"time"
)

// monotonic is for systemd, which is on Linux alone.
func monotonic() time.Duration { return 0 }

// isJournal reports false: there is no systemd.
func isJournal(*os.File) bool { return false }
