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

// KernelMemory returns the size in bytes of the kernel's objects, of whomever, such as sockets (Slab in /proc/meminfo). It is 0 if the
// kernel does not tell.
func KernelMemory() int {
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) == 3 && string(fields[0]) == "Slab:" {
			kilobytes, _ := strconv.Atoi(string(fields[1]))
			return kilobytes << 10
		}
	}
	return 0
}
