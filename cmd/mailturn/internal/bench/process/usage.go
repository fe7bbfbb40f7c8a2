// Package process runs the measured servers, and measures the resources they use.
package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is the resource usage of the processes of a group.
type Usage struct {
	CPU      time.Duration // including that of threads that have ended
	Switches int           // context switches of the existing threads
}

// During returns the usage of the processes of a group while f runs.
func During(group int, f func() error) (Usage, error) {
	pids, err := members(group)
	if err != nil {
		return Usage{}, err
	}
	before := Usage{cpuTime(pids), switches(pids)}
	if err := f(); err != nil {
		return Usage{}, err
	}
	return Usage{cpuTime(pids) - before.CPU, switches(pids) - before.Switches}, nil
}

// Memory returns the resident memory of the processes of a group, in bytes. Shared memory is counted once.
func Memory(group int) (int, error) {
	pids, err := members(group)
	if err != nil {
		return 0, err
	}
	return resident(pids)
}

// members returns the processes of a group.
func members(group int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (comm) state ppid pgrp ..., where comm may contain anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(group) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// cpuTime returns the CPU time that the processes have used, including that of threads that have ended.
func cpuTime(pids []int) (total time.Duration) {
	for _, pid := range pids {
		var ts unix.Timespec
		// The clock of another process, as made by clock_getcpuclockid(3): CPUCLOCK_SCHED of its thread group.
		if unix.ClockGettime(int32(^pid<<3|2), &ts) == nil {
			total += time.Duration(ts.Nano())
		}
	}
	return total
}

// switches returns the number of voluntary and involuntary context switches of the processes' threads.
func switches(pids []int) (total int) {
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/status", pid))
		for _, file := range threads {
			text, _ := os.ReadFile(file) // empty if it has ended
			for line := range strings.Lines(string(text)) {
				if _, count, ok := strings.Cut(line, "voluntary_ctxt_switches:"); ok {
					n, _ := strconv.Atoi(strings.TrimSpace(count))
					total += n
				}
			}
		}
	}
	return total
}

// resident returns the memory of the processes in bytes, with shared memory counted once.
func resident(pids []int) (total int, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); fields[0] == "Pss:" {
				kilobytes, err := strconv.Atoi(fields[1])
				if err != nil {
					return 0, err
				}
				total += kilobytes << 10
			}
		}
	}
	return total, nil
}
