package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Kernel returns the CPU time that the kernel's threads for packets, ksoftirqd, have used.
func Kernel() (time.Duration, error) {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, err
	}
	var pids []int
	for _, file := range names {
		if name, err := os.ReadFile(file); err == nil && bytes.HasPrefix(name, []byte("ksoftirqd/")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return cpuTime(pids), nil
}
