//go:build !linux

package main

import (
	"os"
	"time"
)

// monotonic is for systemd, which exists only on Linux.
func monotonic() time.Duration { return 0 }

// isJournal reports false: there is no systemd.
func isJournal(*os.File) bool { return false }
